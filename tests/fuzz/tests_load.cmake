# A short run over the seeds and what grows from them; a long one: fuzz_load -max_total_time=600 DIR tests/fuzz/corpus/load
if(HW_FUZZ)
  add_executable(fuzz_load ${CMAKE_CURRENT_LIST_DIR}/fuzz_load.c)
  target_link_libraries(fuzz_load PRIVATE hw_core)
  target_link_options(fuzz_load PRIVATE -fsanitize=fuzzer)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz_load_corpus)
  add_test(NAME fuzz_load COMMAND fuzz_load -runs=20000 -max_len=8192 -seed=1 ${CMAKE_BINARY_DIR}/fuzz_load_corpus
                                  ${CMAKE_CURRENT_LIST_DIR}/corpus/load)
endif()
