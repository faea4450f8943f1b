# Self-checking guests. NAME64.c and NAME32.c are Multiboot images (see rt.h); real.S is a firmware image.
# Each ends by debug exit with value 0, exit status 1, when all its checks hold.
# A second opinion, where QEMU is installed: tests/guest/peer.sh BUILD/guest
find_program(LD ld)
if(NOT LD)
  return()
endif()

set(guest_src ${CMAKE_CURRENT_SOURCE_DIR}/guest)
set(guest_out ${CMAKE_BINARY_DIR}/guest)
file(MAKE_DIRECTORY ${guest_out})
set(guest_images "")
set(guest_flags -std=gnu17 -O1 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only
                -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing)

# Each alone on the reference interpreter, and on all engines to be compared.
set(guest_engines interp dbt dbt:block=1 dbt:nochain=1 dbt:cache=64K dbt:flush=200 dbt:exact=1 mixed:switch=7 interp:tlb=2
                  dbt:tlb=2 dbt:tlb=5 mixed:switch=20,tlb=3)
function(guest_test name image)
  add_test(NAME guest_${name} COMMAND ${CMAKE_COMMAND} -DIMAGE=${image} -DHYPERWIND=$<TARGET_FILE:hyperwind> "-DOPTIONS=${ARGN}"
                                      -P ${guest_src}/run.cmake)
  add_test(NAME guest_${name}_engines COMMAND ${CMAKE_COMMAND} -DIMAGE=${image} -DHYPERWIND=$<TARGET_FILE:hyperwind>
                                      "-DOPTIONS=${ARGN}" "-DENGINES=${guest_engines}" -P ${guest_src}/run.cmake)
  set_tests_properties(guest_${name} guest_${name}_engines PROPERTIES LABELS guest TIMEOUT 120)
endfunction()

file(GLOB guests CONFIGURE_DEPENDS ${guest_src}/*64.c ${guest_src}/*32.c)
foreach(source IN LISTS guests)
  get_filename_component(name ${source} NAME_WE)
  string(REGEX MATCH "..$" bits ${name})
  set(emulation elf_x86_64)
  if(bits EQUAL 32)
    set(emulation elf_i386)
  endif()
  set(image ${guest_out}/${name}.bin)
  add_custom_command(OUTPUT ${image} VERBATIM
    DEPENDS ${source} ${guest_src}/rt.c ${guest_src}/rt.h ${guest_src}/smc.h ${guest_src}/rt${bits}.h ${guest_src}/rt${bits}.S ${guest_src}/guest.ld
    COMMAND ${CMAKE_C_COMPILER} -m${bits} ${guest_flags} -c -o ${image}.o ${source}
    COMMAND ${CMAKE_C_COMPILER} -m${bits} ${guest_flags} -c -o ${image}.rt.o ${guest_src}/rt.c
    COMMAND ${CMAKE_C_COMPILER} -m${bits} -c -o ${image}.start.o ${guest_src}/rt${bits}.S
    COMMAND ${LD} -m ${emulation} --oformat binary -T ${guest_src}/guest.ld -o ${image} ${image}.start.o ${image}.rt.o ${image}.o)
  list(APPEND guest_images ${image})
  guest_test(${name} ${image})
endforeach()

set(image ${guest_out}/real.bin)
add_custom_command(OUTPUT ${image} VERBATIM DEPENDS ${guest_src}/real.S
  COMMAND ${CMAKE_C_COMPILER} -m32 -c -o ${image}.o ${guest_src}/real.S
  COMMAND ${LD} -m elf_i386 --oformat binary -Ttext=0 -e 0 -o ${image} ${image}.o)
list(APPEND guest_images ${image})
guest_test(real ${image} --firmware)

add_custom_target(guest_images ALL DEPENDS ${guest_images})
