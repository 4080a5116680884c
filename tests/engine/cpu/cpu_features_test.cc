#include "engine/cpu/cpu_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
// The compiler's own detection, which also asks the operating system.
TEST(CpuFeaturesTest, DetectionAgreesWithTheCompiler) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  EXPECT_EQ(DetectIsa(), avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kScalar);
}
#endif

TEST(CpuFeaturesTest, UnknownNameReturnsInvalidArgument) {
  for (const char* name : {"avx", "AVX2", "sse", " avx2"}) {
    const absl::StatusOr<Isa> isa = ParseIsa(name);
    EXPECT_EQ(isa.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(isa.status().message()), ::testing::HasSubstr("'scalar', 'avx2', 'avx512'"));
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
