# The lints read sources and libraries; once, in the plain gcc build, is enough (sanitizers add symbols of their own).
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT HW_SANITIZE AND NOT HW_FUZZ)
  set(lint ${CMAKE_CURRENT_SOURCE_DIR}/lint)
  add_test(NAME lint_includes COMMAND Python3::Interpreter ${lint}/lint_includes.py ${CMAKE_SOURCE_DIR}
                                      ${CMAKE_BINARY_DIR}/gen)
  add_test(NAME lint_symbols COMMAND Python3::Interpreter ${lint}/lint_symbols.py ${CMAKE_BINARY_DIR})
  add_test(NAME lint_text COMMAND Python3::Interpreter ${lint}/lint_text.py ${CMAKE_SOURCE_DIR})
  add_test(NAME lint_shell COMMAND ${lint}/lint_shell.sh ${CMAKE_SOURCE_DIR})
  add_test(NAME lint_docs COMMAND Python3::Interpreter ${lint}/lint_docs.py ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(lint_includes lint_symbols lint_text lint_shell lint_docs PROPERTIES LABELS lint)
endif()
