# Run the guest IMAGE with OPTIONS; one that is content ends with status 1.
execute_process(COMMAND ${HYPERWIND} run --clock virtual --memory 64M --limit-ticks 100000000 ${OPTIONS} ${IMAGE}
                RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err INPUT_FILE /dev/null)
if(NOT status EQUAL 1)
  message(FATAL_ERROR "${IMAGE}: status ${status}, not 1\n${out}${err}")
endif()
