# Run the guest IMAGE with OPTIONS; one that is content ends with status 1. ENGINES: so it must be on each of them, and all
# must agree about ticks, memory and what it printed.
if(NOT ENGINES)
  set(ENGINES interp)
endif()
set(first "")
foreach(engine IN LISTS ENGINES)
  execute_process(
    COMMAND ${HYPERWIND} run --engine ${engine} --clock virtual --memory 64M --limit-ticks 100000000 ${OPTIONS} ${IMAGE}
    RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err INPUT_FILE /dev/null)
  if(NOT status EQUAL 1)
    message(FATAL_ERROR "${IMAGE} on ${engine}: status ${status}, not 1\n${out}${err}")
  endif()
  if(NOT err MATCHES "after [0-9]+ ticks, memory digest [0-9a-f]+")
    message(FATAL_ERROR "${IMAGE} on ${engine}: no closing line\n${out}${err}")
  endif()
  if(first AND NOT first STREQUAL "${out}${err}")
    message(FATAL_ERROR "${IMAGE}: ${engine} differs from the first engine\n${first}\n${out}${err}")
  endif()
  set(first "${out}${err}")
endforeach()
