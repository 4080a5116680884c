#include "engine/cpu/cpu_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

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
