# Compile settings shared by every target, and tandem_library(), the one way a folder becomes a target.

find_program(TANDEM_CCACHE ccache)
if(TANDEM_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TANDEM_CCACHE})
endif()

# mold links the test binaries in a fraction of the time; -fuse-ld=mold is known to GCC from version 12.1 and to Clang.
if(NOT CMAKE_CROSSCOMPILING)  # a cross compiler looks for its own
  find_program(TANDEM_MOLD mold)
endif()
if(TANDEM_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(tandem_compile INTERFACE)
target_include_directories(tandem_compile INTERFACE ${CMAKE_SOURCE_DIR})
# Canonical arithmetic: no contraction but where std::fma is written, no value-changing optimisation anywhere.
target_compile_options(tandem_compile INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
                                                -ffp-contract=off -fno-fast-math)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(tandem_compile INTERFACE -Wthread-safety)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False positives inside std::string when literals are concatenated: GCC bug 105651, mended in 13.
  target_compile_options(tandem_compile INTERFACE -Wno-restrict)
endif()
if(TANDEM_WERROR)
  target_compile_options(tandem_compile INTERFACE -Werror)
endif()
if(TANDEM_SANITIZE)
  add_compile_options(-fsanitize=${TANDEM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TANDEM_SANITIZE})
endif()
if(TANDEM_FUZZ)
  # Coverage instrumentation for everything that a fuzzer links; the driver itself is linked by tests/fuzz only.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# tandem_library(NAME SOURCES a.cc ... DEPS t ...): a static library of the folder's sources, listed by name.
function(tandem_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC tandem_compile ${ARG_DEPS})
endfunction()

# tandem_test(NAME SOURCES a.cc ... DEPS t ... LABELS unit): a GoogleTest binary registered case by case with ctest. The label of a test that
# goes through gRPC ends in _grpc, that of one without threads in _serial; all others are also reached by the target tests_with_threads, which is what
# ThreadSanitizer runs.
add_custom_target(tests_with_threads)
function(tandem_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE tandem_compile ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  if(NOT ARG_LABELS MATCHES "_(grpc|serial)$")
    add_dependencies(tests_with_threads ${name})
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
