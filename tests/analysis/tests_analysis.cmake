# Symbols and backtraces from a kernel's memory. The Linux guest is fetched by the replay tests.
add_executable(kernel_image ${CMAKE_CURRENT_SOURCE_DIR}/analysis/kernel_image.c)
target_link_libraries(kernel_image PRIVATE hw_replay hw_analysis)

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  set(analysis_guests ${CMAKE_BINARY_DIR}/guests)
  if(DEFINED ENV{HW_GUEST_DIR})
    set(analysis_guests $ENV{HW_GUEST_DIR})
  endif()
  add_test(NAME analysis_ksyms_linux COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/analysis/test_ksyms.py
    $<TARGET_FILE:kernel_image> ${analysis_guests} ${CMAKE_BINARY_DIR}/analysis/ksyms)
  set_tests_properties(analysis_ksyms_linux PROPERTIES LABELS "linux;slow" SKIP_RETURN_CODE 77 TIMEOUT 600
    FIXTURES_REQUIRED linux_guest ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endif()

hw_unit_test(ksyms hw_analysis)
