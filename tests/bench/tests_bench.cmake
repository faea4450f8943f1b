# The programs of tests/bench/dbt.py: one set of workloads as a bare-metal guest and as a Linux program.
# Also a test: they give the same checksums everywhere.
set(bench_src ${CMAKE_CURRENT_SOURCE_DIR}/bench)
set(bench_out ${CMAKE_BINARY_DIR}/bench)
set(bench_rt ${CMAKE_CURRENT_SOURCE_DIR}/guest)
find_program(LD ld)
if(LD AND NOT HW_SANITIZE AND NOT HW_FUZZ)
  file(MAKE_DIRECTORY ${bench_out})
  set(bench_flags -std=gnu17 -O2 -fno-tree-vectorize -Wall -Wextra -Werror -fno-strict-aliasing -fno-stack-protector
                  -fno-asynchronous-unwind-tables -fcf-protection=none -fno-pic -fno-pie -mno-red-zone
                  -I${CMAKE_SOURCE_DIR} -I${bench_src})
  set(bench_guest_flags ${bench_flags} -m64 -ffreestanding)
  set(image ${bench_out}/guest.bin)
  add_custom_command(OUTPUT ${image} VERBATIM
    DEPENDS ${bench_src}/guest.c ${bench_src}/workloads.c ${bench_src}/workloads.h ${bench_rt}/rt.c ${bench_rt}/rt.h
            ${bench_rt}/rt64.h ${bench_rt}/rt64.S ${bench_rt}/guest.ld
    COMMAND ${CMAKE_C_COMPILER} ${bench_guest_flags} -c -o ${image}.workloads.o ${bench_src}/workloads.c
    COMMAND ${CMAKE_C_COMPILER} ${bench_guest_flags} -mgeneral-regs-only -c -o ${image}.o ${bench_src}/guest.c
    COMMAND ${CMAKE_C_COMPILER} ${bench_guest_flags} -mgeneral-regs-only -c -o ${image}.rt.o ${bench_rt}/rt.c
    COMMAND ${CMAKE_C_COMPILER} -m64 -c -o ${image}.start.o ${bench_rt}/rt64.S
    COMMAND ${LD} -m elf_x86_64 --oformat binary -T ${bench_rt}/guest.ld -o ${image}
            ${image}.start.o ${image}.rt.o ${image}.o ${image}.workloads.o)
  add_custom_target(bench_guest ALL DEPENDS ${image})
  add_executable(bench_native ${bench_src}/native.c ${bench_src}/workloads.c)
  # As the guest is compiled, so that the two differ in nothing but where they run.
  target_compile_options(bench_native PRIVATE ${bench_flags})
  target_link_options(bench_native PRIVATE -no-pie)
  set_target_properties(bench_native PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${bench_out})
  find_package(Python3 COMPONENTS Interpreter)
  if(Python3_FOUND)
    add_test(NAME bench_workloads COMMAND Python3::Interpreter ${bench_src}/test_workloads.py
                                          $<TARGET_FILE:hyperwind>)
    set_tests_properties(bench_workloads PROPERTIES TIMEOUT 300 ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
  endif()
endif()

# What tests/bench/travel.py measures a timeline with.
add_executable(bench_travel ${bench_src}/travel.c)
target_link_libraries(bench_travel PRIVATE hw_replay)
set_target_properties(bench_travel PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${bench_out})
