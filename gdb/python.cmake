# gdb/python.cmake: hyperwind.py becomes gen/hyperwind_py.hex, a C array that cmd_debug.c includes.
set(python_hex ${CMAKE_BINARY_DIR}/gen/hyperwind_py.hex)
add_custom_command(OUTPUT ${python_hex} DEPENDS ${CMAKE_CURRENT_LIST_DIR}/hyperwind.py ${CMAKE_CURRENT_LIST_DIR}/hex.cmake
  COMMAND ${CMAKE_COMMAND} -D IN=${CMAKE_CURRENT_LIST_DIR}/hyperwind.py -D OUT=${python_hex}
                           -P ${CMAKE_CURRENT_LIST_DIR}/hex.cmake VERBATIM)
target_sources(hw_gdb PRIVATE ${python_hex})
