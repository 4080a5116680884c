#include "worker/device_probe.h"

#include <gtest/gtest.h>

namespace tandem::worker {
namespace {

// Bounds that any machine able to run the tests meets, sanitizers included, and that no mistake of a unit (MB for
// bytes, milliseconds for seconds) does.
constexpr double kMinBandwidth = 20e6, kMaxBandwidth = 20e12;
constexpr double kMinMacs = 1e6, kMaxMacs = 1e15;

TEST(DeviceProbeTest, FiguresArePlausible) {
  const auto device = ProbeDevice({.threads = 1, .pin_threads = false, .isa = engine::DetectIsa()});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE(device->cpu_model().empty());
  EXPECT_EQ(device->isa(), engine::IsaName(engine::DetectIsa()));
  EXPECT_EQ(device->threads(), 1u);
  EXPECT_GT(device->memory_bytes(), uint64_t{16} << 20);
  EXPECT_GT(device->memory_bandwidth(), kMinBandwidth);
  EXPECT_LT(device->memory_bandwidth(), kMaxBandwidth);
  EXPECT_GT(device->int8_macs(), kMinMacs);
  EXPECT_LT(device->int8_macs(), kMaxMacs);
}

TEST(DeviceProbeTest, ThreadsAndLimitAreTaken) {
  const auto device =
      ProbeDevice({.threads = 3, .pin_threads = false, .isa = engine::Isa::kScalar, .memory_bytes = 12345678});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(device->threads(), 3u);
  EXPECT_EQ(device->isa(), "scalar");
  EXPECT_EQ(device->memory_bytes(), 12345678u);
}

TEST(DeviceProbeTest, BufferThatCannotBeHadReturnsResourceExhausted) {
  engine::ThreadPool pool(1, false);
  EXPECT_EQ(MeasureReadBandwidth(pool, uint64_t{1} << 60).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MeasureReadBandwidth(pool, 0).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace tandem::worker
