# Record-and-replay tests: each function test_* of a test_*.py is a test; `# labels: ...` behind it gives its labels.
find_package(Python3 COMPONENTS Interpreter)
find_program(LD ld)
if(NOT Python3_FOUND OR NOT LD)
  return()
endif()

set(replay_dir ${CMAKE_CURRENT_SOURCE_DIR}/replay)
set(small_guest ${CMAKE_BINARY_DIR}/replay/guest.elf)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/replay)
add_custom_command(OUTPUT ${small_guest} DEPENDS ${replay_dir}/guest.S VERBATIM
  COMMAND ${CMAKE_C_COMPILER} -m32 -c -o ${small_guest}.o ${replay_dir}/guest.S
  COMMAND ${LD} -m elf_i386 -n --no-warn-rwx-segments --build-id=none -Ttext=0x100000 -o ${small_guest} ${small_guest}.o)
add_custom_target(replay_guest ALL DEPENDS ${small_guest})

# A program of the Linux guest, test_kernel_code.py's. Static and at a fixed address: nothing else is there, and nothing varies.
if(NOT HW_SANITIZE AND NOT HW_FUZZ)
  file(GLOB kernel_code CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/guest/linux/*.c)
  add_executable(kernel_code ${kernel_code})
  target_compile_options(kernel_code PRIVATE -fno-pie)
  target_link_options(kernel_code PRIVATE -static -no-pie)
  set_target_properties(kernel_code PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/replay/linux)
endif()

set(guest_dir ${CMAKE_BINARY_DIR}/guests)
if(DEFINED ENV{HW_GUEST_DIR})
  set(guest_dir $ENV{HW_GUEST_DIR})
endif()
add_test(NAME replay_fetch_linux COMMAND ${CMAKE_SOURCE_DIR}/samples/linux/fetch.sh ${guest_dir})
set_tests_properties(replay_fetch_linux PROPERTIES FIXTURES_SETUP linux_guest)

file(GLOB scripts CONFIGURE_DEPENDS ${replay_dir}/test_*.py)
foreach(script IN LISTS scripts)
  get_filename_component(group ${script} NAME_WE)
  string(REGEX REPLACE "^test_" "" group ${group})
  # These compare this build with the release build: only where there is another one.
  set(release "$ENV{HW_RELEASE_PROGRAM}")
  if(group STREQUAL "builds" AND (release STREQUAL "" OR release STREQUAL "${CMAKE_BINARY_DIR}/hyperwind"))
    continue()
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
  file(STRINGS ${script} functions REGEX "^def test_")
  foreach(line IN LISTS functions)
    string(REGEX REPLACE "^def (test_[a-z_0-9]+).*" "\\1" function "${line}")
    string(REGEX REPLACE "^test_" "" case ${function})
    set(labels "")
    if(line MATCHES "# labels: (.*)$")
      string(REPLACE " " ";" labels "${CMAKE_MATCH_1}")
    endif()
    set(name replay_${group}_${case})
    add_test(NAME ${name} COMMAND Python3::Interpreter ${script} $<TARGET_FILE:hyperwind>
                                  ${CMAKE_BINARY_DIR}/replay/${group} ${function})
    set_tests_properties(${name} PROPERTIES LABELS "replay;${labels}" SKIP_RETURN_CODE 77 TIMEOUT 1200
      ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1;HW_SMALL_GUEST_DIR=${CMAKE_BINARY_DIR}/replay;HW_GUEST_DIR=${guest_dir};HW_RELEASE_PROGRAM=${release}")
    if("linux" IN_LIST labels)
      set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED linux_guest)
    endif()
  endforeach()
endforeach()

# Random programs: what runs them, compiled as the guests are. test_random.py has the programs assembled and linked with it.
foreach(bits 64 32)
  set(rig ${CMAKE_BINARY_DIR}/replay/random${bits}.o)
  set(emulation elf_x86_64)
  if(bits EQUAL 32)
    set(emulation elf_i386)
  endif()
  add_custom_command(OUTPUT ${rig} VERBATIM
    DEPENDS ${replay_dir}/random.c ${guest_src}/rt.c ${guest_src}/rt.h ${guest_src}/rt${bits}.h ${guest_src}/rt${bits}.S
    COMMAND ${CMAKE_C_COMPILER} -m${bits} ${guest_flags} -I${CMAKE_SOURCE_DIR} -c -o ${rig}.main.o ${replay_dir}/random.c
    COMMAND ${CMAKE_C_COMPILER} -m${bits} ${guest_flags} -c -o ${rig}.rt.o ${guest_src}/rt.c
    COMMAND ${CMAKE_C_COMPILER} -m${bits} -c -o ${rig}.start.o ${guest_src}/rt${bits}.S
    COMMAND ${LD} -m ${emulation} -r -o ${rig} ${rig}.start.o ${rig}.rt.o ${rig}.main.o)
  add_custom_target(replay_random${bits} ALL DEPENDS ${rig})
endforeach()
add_executable(lockstep ${replay_dir}/lockstep.c)
target_link_libraries(lockstep PRIVATE hw_replay)
add_executable(probes ${replay_dir}/probes.c)
target_link_libraries(probes PRIVATE hw_replay)
add_executable(timeline ${replay_dir}/timeline.c)
target_link_libraries(timeline PRIVATE hw_replay)
add_executable(damaged ${replay_dir}/damaged.c)
target_link_libraries(damaged PRIVATE hw_replay)
add_executable(forged ${replay_dir}/forged.c)
target_link_libraries(forged PRIVATE hw_replay)

# Linux's first 300 million ticks, stopped anywhere.
add_executable(stop_anywhere ${replay_dir}/stop_anywhere.c)
target_link_libraries(stop_anywhere PRIVATE hw_replay)
function(stop_anywhere name ticks engine)
  add_test(NAME ${name} COMMAND stop_anywhere ${guest_dir}/vmlinuz ${guest_dir}/initrd.cpio ${ticks} ${engine})
  set_tests_properties(${name} PROPERTIES LABELS "replay;slow;linux" FIXTURES_REQUIRED linux_guest TIMEOUT 1200)
endfunction()
stop_anywhere(replay_stop_anywhere 300000000 interp)
stop_anywhere(replay_stop_anywhere_dbt 300000000 dbt)
stop_anywhere(replay_stop_anywhere_dbt_exact 300000000 dbt:exact=1)
