#!/usr/bin/env bash
# Installs what is needed, builds with warnings as errors, and runs the tests.
#   tests/run.sh                                  all tests, release build
#   tests/run.sh --sanitize=address|thread|undefined
#                                                 built and run under the sanitizer (address includes undefined; thread leaves out
#                                                 the tests labelled grpc: Debian's gRPC is not instrumented, which gives false reports; and
#                                                 those labelled serial, which have one thread)
#   tests/run.sh --locks                          only compiles, with Clang and -Wthread-safety -Werror
#   tests/run.sh --aarch64                        the engine's tests, cross-compiled for AArch64 and run by qemu
#   tests/run.sh --labels=REGEX                   only tests with such labels: unit kernel integration e2e (those that use gRPC end in _grpc, those without threads in _serial)
#   tests/run.sh --jobs=N                         parallel compilers and tests (default: all processors)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

preset=test
labels=""
jobs=$(nproc)
for arg in "$@"; do
  case "$arg" in
    --sanitize=address | --sanitize=thread | --sanitize=undefined) preset=${arg#--sanitize=} ;;
    --locks) preset=locks ;;
    --aarch64) preset=aarch64 ;;
    --labels=*) labels=${arg#--labels=} ;;
    --jobs=*) jobs=${arg#--jobs=} ;;
    --help | -h) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "tests/run.sh: unknown argument '$arg'; see --help" >&2; exit 2 ;;
  esac
done

groups=(build test)
[ "$preset" = locks ] && groups+=(clang)
[ "$preset" = aarch64 ] && groups+=(aarch64)
deploy/install-packages.sh "${groups[@]}"

echo "configure: preset $preset in build/$preset"
cmake --preset "$preset" >"/tmp/tandem-configure.$$" 2>&1 || { cat "/tmp/tandem-configure.$$"; rm -f "/tmp/tandem-configure.$$"; exit 1; }
rm -f "/tmp/tandem-configure.$$"
echo "build: $jobs jobs"
target=all
[ "$preset" = thread ] && target=tests_with_threads
cmake --build "build/$preset" --parallel "$jobs" --target "$target"
[ "$preset" = locks ] && { echo "lock annotations: clean"; exit 0; }

# A buffer that cannot be had is an error that is tested, so the sanitizer must not end the program for it.
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$root/tests/tsan.supp
[ -n "$labels" ] || labels='unit|kernel|integration|e2e'
select=(-L "$labels")
[ "$preset" = thread ] && select+=(-LE 'grpc|serial')
echo "test: build/$preset"
ctest --test-dir "build/$preset" --output-on-failure --parallel "$jobs" "${select[@]}"
