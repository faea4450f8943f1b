# The instruction tests: every form against the host CPU. Seeds replay: insn_test --seed S --form N --case K -v
file(GLOB insn_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.c)
add_executable(insn_test ${insn_sources})
target_link_libraries(insn_test PRIVATE hw_exec)
# 200 cases a form, 1.3 million in all. With sanitizers the engine runs alone: their shadow memory lies among the addresses
# that cases of 32 bits may reach natively.
if(HW_SANITIZE)
  add_test(NAME insn_all_forms COMMAND insn_test --engine-only --cases 20)
else()
  add_test(NAME insn_all_forms COMMAND insn_test --cases 200 --jobs 2)
endif()
set_tests_properties(insn_all_forms PROPERTIES LABELS insn TIMEOUT 900 SKIP_RETURN_CODE 77)
