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
# The translator: each case as a block of its own, and in a block behind its NOPs, if it has any. Fewer cases: every one
# translates anew.
foreach(variant block exact)
  if(HW_SANITIZE)
    add_test(NAME insn_dbt_${variant} COMMAND insn_test --engine dbt:${variant}=1 --engine-only --cases 10)
  else()
    add_test(NAME insn_dbt_${variant} COMMAND insn_test --engine dbt:${variant}=1 --cases 40 --jobs 2)
  endif()
  set_tests_properties(insn_dbt_${variant} PROPERTIES LABELS "insn;slow" TIMEOUT 900 SKIP_RETURN_CODE 77)
endforeach()
