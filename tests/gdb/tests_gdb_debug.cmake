# The real gdb, the program, and real guests. The tests of a script share recordings, so a script is one test.
find_package(Python3 COMPONENTS Interpreter)
if(NOT Python3_FOUND)
  return()
endif()
set(debug_guest_dir ${CMAKE_BINARY_DIR}/guests)
if(DEFINED ENV{HW_GUEST_DIR})
  set(debug_guest_dir $ENV{HW_GUEST_DIR})
endif()
foreach(script test_debug test_debug_i386 test_debug_linux)
  string(REGEX REPLACE "^test_" "gdb_" name ${script})
  add_test(NAME ${name} COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/${script}.py $<TARGET_FILE:hyperwind>
                                ${CMAKE_BINARY_DIR}/gdb/${name})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1200
    ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1;HW_GUEST_DIR=${debug_guest_dir}")
endforeach()
set_tests_properties(gdb_debug PROPERTIES LABELS "slow;sanitize")
set_tests_properties(gdb_debug_linux PROPERTIES LABELS "slow;linux" FIXTURES_REQUIRED linux_guest)
