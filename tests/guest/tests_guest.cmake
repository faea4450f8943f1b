# Self-checking guests. NAME64.c and NAME32.c are Multiboot images (see rt.h); real.S is a firmware image.
# Each ends by debug exit with value 0, exit status 1, when all its checks hold.
# guest_peer runs them under QEMU as a second opinion: cmake --build . --target guest_peer
find_program(LD ld)
find_program(QEMU qemu-system-x86_64)
if(NOT LD)
  return()
endif()

set(guest_src ${CMAKE_CURRENT_SOURCE_DIR}/guest)
set(guest_out ${CMAKE_BINARY_DIR}/guest)
file(MAKE_DIRECTORY ${guest_out})
set(guest_flags -std=gnu17 -O1 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only
                -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing)
set(guest_images "")
set(guest_peers "")

function(guest_test name image how peer_how)
  add_test(NAME guest_${name} COMMAND ${CMAKE_COMMAND} -DIMAGE=${image} "-DCOMMAND=$<TARGET_FILE:hyperwind>;run;--clock;virtual;--memory;64M;--limit-ticks;100000000;${how}"
                                      -P ${guest_src}/run.cmake)
  set_tests_properties(guest_${name} PROPERTIES LABELS guest TIMEOUT 120)
  set(guest_images ${guest_images} ${image} PARENT_SCOPE)
  set(guest_peers ${guest_peers} COMMAND ${CMAKE_COMMAND} -DIMAGE=${image}
      "-DCOMMAND=${QEMU};-cpu;max,vendor=GenuineIntel;-m;64;-display;none;-serial;none;-monitor;none;-debugcon;stdio;-no-reboot;-device;isa-debug-exit,iobase=0xf4,iosize=4;${peer_how}"
      -P ${guest_src}/run.cmake PARENT_SCOPE)
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
    DEPENDS ${source} ${guest_src}/rt.c ${guest_src}/rt.h ${guest_src}/rt${bits}.h ${guest_src}/rt${bits}.S ${guest_src}/guest.ld
    COMMAND ${CMAKE_C_COMPILER} -m${bits} ${guest_flags} -c -o ${image}.o ${source}
    COMMAND ${CMAKE_C_COMPILER} -m${bits} ${guest_flags} -c -o ${image}.rt.o ${guest_src}/rt.c
    COMMAND ${CMAKE_C_COMPILER} -m${bits} -c -o ${image}.start.o ${guest_src}/rt${bits}.S
    COMMAND ${LD} -m ${emulation} --oformat binary -T ${guest_src}/guest.ld -o ${image} ${image}.start.o ${image}.rt.o ${image}.o)
  guest_test(${name} ${image} "" -kernel)
endforeach()

set(image ${guest_out}/real.bin)
add_custom_command(OUTPUT ${image} VERBATIM DEPENDS ${guest_src}/real.S
  COMMAND ${CMAKE_C_COMPILER} -m32 -c -o ${image}.o ${guest_src}/real.S
  COMMAND ${LD} -m elf_i386 --oformat binary -Ttext=0 -e 0 -o ${image} ${image}.o)
guest_test(real ${image} --firmware -bios)

add_custom_target(guest_images ALL DEPENDS ${guest_images})
if(QEMU)
  add_custom_target(guest_peer DEPENDS ${guest_images} ${guest_peers} VERBATIM)
endif()
