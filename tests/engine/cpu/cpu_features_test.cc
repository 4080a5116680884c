#include "engine/cpu/cpu_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "engine/cpu/kernel_table.h"

namespace tandem::engine {
namespace {

TEST(CpuFeaturesTest, AutoAndEmptyGiveTheDetectedIsa) {
  EXPECT_EQ(*ParseIsa("auto"), DetectIsa());
  EXPECT_EQ(*ParseIsa(""), DetectIsa());
}

TEST(CpuFeaturesTest, EverySupportedIsaParses) {
  for (const Isa isa : SupportedIsas()) {
    EXPECT_EQ(*ParseIsa(IsaName(isa)), isa);
  }
}

#ifdef __x86_64__
// The operating system's list of what it and the processor support.
TEST(CpuFeaturesTest, DetectionAgreesWithTheOperatingSystem) {
  std::ifstream file("/proc/cpuinfo");
  std::set<std::string> flags;
  for (std::string line; flags.empty() && std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    flags.insert(std::istream_iterator<std::string>(words), {});
  }
  if (flags.empty()) GTEST_SKIP() << "no flags in /proc/cpuinfo";
  const auto all = [&](std::initializer_list<const char*> names) {
    return std::ranges::all_of(names, [&](const char* name) { return flags.contains(name); });
  };
  std::vector<Isa> expected = {Isa::kScalar};
  const bool avx2 = all({"avx2", "fma", "f16c"});
  const bool avx512 = avx2 && all({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"});
  if (avx2) expected.push_back(Isa::kAvx2);
  if (avx2 && all({"avx_vnni"})) expected.push_back(Isa::kAvxVnni);
  if (avx512) expected.push_back(Isa::kAvx512);
  uint64_t permitted = 0;  // to this process, after it asked
  (void)SupportedIsas();
  (void)syscall(SYS_arch_prctl, /*ARCH_GET_XCOMP_PERM*/ 0x1022, &permitted);
  const bool tiles = (permitted >> 17 & 3) == 3;
  if (avx512 && all({"amx_tile", "amx_int8"}) && tiles) expected.push_back(Isa::kAmx);
  EXPECT_THAT(SupportedIsas(), ::testing::ElementsAreArray(expected));
}
#endif

#ifdef __aarch64__
jmp_buf not_executed;

// Whether the processor executes an instruction: what detection promises, seen without asking the kernel.
bool Executes(void (*instruction)()) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { longjmp(not_executed, 1); };
  action.sa_flags = SA_NODEFER;
  sigaction(SIGILL, &action, &before);
  const bool executed = setjmp(not_executed) == 0;
  if (executed) instruction();
  sigaction(SIGILL, &before, nullptr);
  return executed;
}

TEST(CpuFeaturesTest, DetectionAgreesWithWhatTheProcessorExecutes) {
  const bool dot = Executes([] { __asm__ volatile(".arch armv8.2-a+dotprod\n sdot v0.4s, v0.16b, v0.16b" ::: "v0"); });
  const bool i8mm = Executes([] { __asm__ volatile(".arch armv8.2-a+i8mm\n smmla v0.4s, v0.16b, v0.16b" ::: "v0"); });
  EXPECT_EQ(IsSupported(Isa::kNeon), dot);
  EXPECT_EQ(IsSupported(Isa::kNeonI8mm), dot && i8mm);
  EXPECT_FALSE(Executes([] { __asm__ volatile("udf #0"); }));
}
#endif

#ifdef TANDEM_EMULATED
// The emulated processor has everything, so that no kernel of a cross build goes untested.
TEST(CpuFeaturesTest, EmulatorHasEveryKernelSetOfItsArchitecture) {
  for (const Isa isa : AllIsas()) {
    EXPECT_EQ(IsSupported(isa), isa == Isa::kScalar || KernelsFor(isa).isa == isa) << IsaName(isa);
  }
}
#endif

TEST(CpuFeaturesTest, UnknownNameReturnsInvalidArgument) {
  for (const char* name : {"avx", "AVX2", "sse", " avx2"}) {
    const absl::StatusOr<Isa> isa = ParseIsa(name);
    EXPECT_EQ(isa.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(isa.status().message()),
                ::testing::HasSubstr("'scalar', 'avx2', 'avx-vnni', 'avx512', 'amx'"));
  }
}

TEST(CpuFeaturesTest, IsaBeyondThisMachineReturnsFailedPrecondition) {
  if (SupportedIsas().size() == AllIsas().size()) GTEST_SKIP() << "this machine has every kernel set";
  for (const Isa beyond : AllIsas()) {
    if (IsSupported(beyond)) continue;
    const absl::StatusOr<Isa> isa = ParseIsa(IsaName(beyond));
    EXPECT_EQ(isa.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(isa.status().message()), ::testing::HasSubstr(std::string(IsaName(DetectIsa()))));
  }
}

TEST(CpuFeaturesTest, ModelNameIsPrintable) {
  const std::string name = CpuModelName();
  EXPECT_FALSE(name.empty());
  for (const char c : name) EXPECT_TRUE(c >= ' ' && c < 127) << name;
}

}  // namespace
}  // namespace tandem::engine
