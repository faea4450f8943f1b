# core/load/dsdt.cmake: dsdt.asl becomes gen/dsdt.hex, a C array that acpi.c includes.
find_program(IASL iasl REQUIRED)
set(dsdt_hex ${CMAKE_BINARY_DIR}/gen/dsdt.hex)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/gen)
add_custom_command(OUTPUT ${dsdt_hex}
  COMMAND ${IASL} -we -tc -p ${CMAKE_BINARY_DIR}/gen/dsdt ${CMAKE_CURRENT_LIST_DIR}/dsdt.asl > ${dsdt_hex}.log
  DEPENDS ${CMAKE_CURRENT_LIST_DIR}/dsdt.asl VERBATIM)
target_sources(hw_core PRIVATE ${dsdt_hex})
