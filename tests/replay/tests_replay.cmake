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

# Linux's first 300 million ticks, stopped anywhere.
add_executable(stop_anywhere ${replay_dir}/stop_anywhere.c)
target_link_libraries(stop_anywhere PRIVATE hw_replay)
add_test(NAME replay_stop_anywhere COMMAND stop_anywhere ${guest_dir}/vmlinuz ${guest_dir}/initrd.cpio 300000000)
set_tests_properties(replay_stop_anywhere PROPERTIES LABELS "replay;slow;linux" FIXTURES_REQUIRED linux_guest TIMEOUT 1200)
