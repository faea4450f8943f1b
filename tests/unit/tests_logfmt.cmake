hw_unit_test(logfmt hw_logfmt)
hw_unit_test(logfmt_checkpoints hw_logfmt)
hw_unit_test(logfmt_damage hw_logfmt)
hw_unit_test(logfmt_writer hw_logfmt)

add_executable(logfmt_doc ${CMAKE_CURRENT_LIST_DIR}/logfmt_doc.c)
target_link_libraries(logfmt_doc PRIVATE hw_logfmt)
add_test(NAME doc_recording_format COMMAND logfmt_doc ${CMAKE_SOURCE_DIR}/docs/recording-format.md)
