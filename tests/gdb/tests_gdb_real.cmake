# The real gdb, on a guest whose states are a formula; then recordings of real guests.
find_package(Python3 COMPONENTS Interpreter)
add_executable(gdb_rig ${CMAKE_CURRENT_LIST_DIR}/rig.c)
target_link_libraries(gdb_rig PRIVATE hw_gdb)
add_executable(gdb_serve ${CMAKE_CURRENT_LIST_DIR}/serve.c)
target_link_libraries(gdb_serve PRIVATE hw_gdb hw_replay)
if(Python3_FOUND)
  add_test(NAME gdb_real COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/test_gdb.py $<TARGET_FILE:gdb_rig>
                                 ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/gdb)
  set_tests_properties(gdb_real PROPERTIES SKIP_RETURN_CODE 77)
  add_test(NAME gdb_replay COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/test_replay.py
                                   $<TARGET_FILE:hyperwind> $<TARGET_FILE:gdb_serve>
                                   ${CMAKE_BINARY_DIR}/replay/guest.elf ${CMAKE_BINARY_DIR}/gdb/replay)
endif()
