add_executable(golden_log ${CMAKE_CURRENT_LIST_DIR}/golden_log.c)
target_link_libraries(golden_log PRIVATE hw_logfmt)
add_test(NAME golden_log COMMAND golden_log ${CMAKE_CURRENT_LIST_DIR}/log-v1)

# A second reader, written from docs/recording-format.md alone, must say the same.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  add_test(NAME golden_log_reader COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/read_log.py
                                          ${CMAKE_CURRENT_LIST_DIR}/log-v1)
  set_tests_properties(golden_log_reader PROPERTIES SKIP_RETURN_CODE 77)
endif()
