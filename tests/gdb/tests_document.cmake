# docs/debugging.md: its commands, run as printed; and gdb's machine interface, for editors.
find_package(Python3 COMPONENTS Interpreter)
if(NOT Python3_FOUND)
  return()
endif()
set(debugging_guests ${CMAKE_BINARY_DIR}/guests)
if(DEFINED ENV{HW_GUEST_DIR})
  set(debugging_guests $ENV{HW_GUEST_DIR})
endif()
foreach(part tutorial reference tables)
  add_test(NAME gdb_document_${part} COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/test_document.py
                                             $<TARGET_FILE:hyperwind> ${CMAKE_SOURCE_DIR} ${debugging_guests}
                                             ${CMAKE_BINARY_DIR}/gdb/document_${part} ${part})
  set_tests_properties(gdb_document_${part} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endforeach()
set_tests_properties(gdb_document_reference PROPERTIES LABELS "slow;linux" FIXTURES_REQUIRED linux_guest)
add_test(NAME gdb_mi COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/test_mi.py $<TARGET_FILE:hyperwind>
                             ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/gdb/mi)
set_tests_properties(gdb_mi PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
