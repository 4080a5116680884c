#include "worker/device_probe.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"
#include "worker/memory_limit.h"

namespace tandem::worker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kBandwidthSeconds = 0.3;
constexpr double kMacsSeconds = 0.2;
constexpr uint64_t kMinBufferBytes = 256 << 20;
constexpr uint64_t kMaxBufferBytes = 512 << 20;

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Calls `pass` until `seconds` have gone by, at least twice; gives the shortest time of one. The shortest, since other
// programs can only lengthen it.
template <typename Pass>
double FastestPass(double seconds, Pass pass) {
  double fastest = 0;
  const Clock::time_point begin = Clock::now();
  for (int count = 0; count < 2 || SecondsSince(begin) < seconds; ++count) {
    const Clock::time_point pass_begin = Clock::now();
    pass();
    const double s = SecondsSince(pass_begin);
    if (count == 0 || s < fastest) fastest = s;
  }
  return std::max(fastest, 1e-9);
}

uint64_t Sum(const uint64_t* words, int64_t count) {
  // Four chains, so that the loads and not one chain of additions set the pace.
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (int64_t i = 0; i + 4 <= count; i += 4) {
    a += words[i];
    b += words[i + 1];
    c += words[i + 2];
    d += words[i + 3];
  }
  return a + b + c + d;
}

// A buffer that does not fit into the caches, without taking more than a quarter of the memory.
uint64_t BandwidthBufferBytes(uint64_t memory_bytes) {
  const int64_t last_level = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  const uint64_t wanted = std::clamp<uint64_t>(2 * last_level, kMinBufferBytes, kMaxBufferBytes);
  return std::min(wanted, memory_bytes / 4);
}

// Random activations of `rows` tokens as the Q8_0 kernel takes them.
struct QuantizedRows {
  QuantizedRows(const engine::KernelTable& kernels, int rows, int64_t cols)
      : q(rows * cols), scale(rows * cols / 32), sum16(rows * cols / 16) {
    std::vector<float> x(cols);
    uint32_t state = 1;
    for (int row = 0; row < rows; ++row) {
      for (float& value : x) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
      }
      kernels.quantize_block32(x.data(), cols, q.data() + row * cols, scale.data() + row * cols / 32,
                               sum16.data() + row * cols / 16);
    }
  }
  std::vector<int8_t> q;
  std::vector<float> scale;
  std::vector<int32_t> sum16;
};

absl::Status OutOfMemory(uint64_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat("no memory to measure with: ", bytes, " bytes wanted"));
}

}  // namespace

absl::StatusOr<double> MeasureReadBandwidth(engine::ThreadPool& pool, uint64_t buffer_bytes) {
  const int64_t words = static_cast<int64_t>(buffer_bytes / sizeof(uint64_t));
  const std::unique_ptr<uint64_t[]> buffer(new (std::nothrow) uint64_t[words]);
  if (buffer == nullptr || words == 0) return OutOfMemory(buffer_bytes);
  // Each thread fills the part that it will read, so that the memory is near it.
  constexpr int64_t kGrain = 4096 / sizeof(uint64_t);
  pool.ParallelFor(words, kGrain, [&](int64_t begin, int64_t end, int thread) {
    std::fill(buffer.get() + begin, buffer.get() + end, static_cast<uint64_t>(thread) + 1);
  });
  std::atomic<uint64_t> sink{0};  // keeps the reads from being optimised away
  const double seconds = FastestPass(kBandwidthSeconds, [&] {
    pool.ParallelFor(words, kGrain, [&](int64_t begin, int64_t end, int) { sink += Sum(&buffer[begin], end - begin); });
  });
  return static_cast<double>(words * sizeof(uint64_t)) / seconds;
}

absl::StatusOr<double> MeasureInt8Macs(engine::ThreadPool& pool, engine::Isa isa) {
  constexpr int kRows = 64;
  constexpr int64_t kCols = 1024;
  constexpr uint64_t kBlockBytes = 34;  // Q8_0: f16 scale, 32 int8
  // At least four groups of rows a thread, so that no thread waits long for another.
  const int64_t outputs = std::max<int64_t>(1024, 4 * engine::kRowGroup * pool.size());
  try {
    // The bit pattern 0x11 makes a small scale and small weights: any value would do.
    const std::vector<std::byte> weights(outputs * kCols / 32 * kBlockBytes, std::byte{0x11});
    TANDEM_ASSIGN_OR_RETURN(const engine::PackedMatrix matrix,
                            engine::PackedMatrix::Pack(engine::TensorType::kQ8_0, outputs, kCols, weights, pool));
    const engine::KernelTable& kernels = engine::KernelsFor(isa);
    const engine::KernelTable::MatMul multiply = kernels.MatMulFor(engine::TensorType::kQ8_0);
    const QuantizedRows rows(kernels, kRows, kCols);
    std::vector<float> out(kRows * outputs);
    const double seconds = FastestPass(kMacsSeconds, [&] {
      pool.ParallelFor(matrix.groups(), 1, [&](int64_t begin, int64_t end, int) {
        multiply({.weights = matrix.view(),
                  .x = {.q = rows.q.data(), .scale = rows.scale.data(), .sum16 = rows.sum16.data()},
                  .rows = kRows,
                  .out = out.data(),
                  .out_stride = outputs,
                  .group_begin = begin,
                  .group_end = end});
      });
    });
    return static_cast<double>(kRows) * kCols * outputs / seconds;
  } catch (const std::bad_alloc&) {
    return OutOfMemory(kRows * outputs * sizeof(float) + outputs * kCols * 2);
  }
}

absl::StatusOr<v1::Device> ProbeDevice(const ProbeOptions& options) {
  engine::ThreadPool pool(options.threads, options.pin_threads);
  v1::Device device;
  device.set_cpu_model(engine::CpuModelName());
  device.set_isa(std::string(engine::IsaName(options.isa)));
  device.set_threads(pool.size());
  device.set_memory_bytes(UsableMemory(options.memory_bytes));
  const uint64_t buffer = BandwidthBufferBytes(UsableMemory(0));
  TANDEM_ASSIGN_OR_RETURN(const double bandwidth, MeasureReadBandwidth(pool, buffer));
  TANDEM_ASSIGN_OR_RETURN(const double macs, MeasureInt8Macs(pool, options.isa));
  device.set_memory_bandwidth(bandwidth);
  device.set_int8_macs(macs);
  return device;
}

}  // namespace tandem::worker
