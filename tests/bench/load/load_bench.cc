// What laying out weights costs: GB/s of every format on one thread, from and to the cache (pack), and of a whole
// matrix of 100 MB from memory to fresh memory, system calls and page faults of a load included but the reading
// (matrix).
//
//   load_bench --benchmark_filter='q4_k'
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/cpu/pack_blocks.h"
#include "engine/cpu/packed_matrix.h"

namespace tandem::engine {
namespace {

constexpr int64_t kCols = 4096;

std::vector<std::byte> RandomBytes(uint64_t size) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

void Pack(benchmark::State& state, TensorType type) {
  const BlockLayout& layout = *FindBlockLayout(type);
  const std::vector<std::byte> rows = RandomBytes(PackedGroupBytes(type, kCols));
  std::vector<std::byte> out(rows.size());
  for (auto _ : state) {
    PackGroup(layout, kCols / FindBlockFormat(type)->block_elements, rows.data(), out.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(rows.size()));
}

void Matrix(benchmark::State& state, TensorType type) {
  ThreadPool pool(1, false);
  const int64_t groups = 100'000'000 / static_cast<int64_t>(PackedGroupBytes(type, kCols));
  const std::vector<std::byte> rows = RandomBytes(groups * PackedGroupBytes(type, kCols));
  for (auto _ : state) benchmark::DoNotOptimize(PackedMatrix::Pack(type, groups * kRowGroup, kCols, rows, pool));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(rows.size()));
}

void RegisterAll() {
  for (const BlockFormat& format : AllBlockFormats()) {
    if (FindBlockLayout(format.type) == nullptr) continue;
    const std::string name = absl::AsciiStrToLower(format.name);
    benchmark::RegisterBenchmark(absl::StrCat("pack/", name).c_str(), Pack, format.type);
    benchmark::RegisterBenchmark(absl::StrCat("matrix/", name).c_str(), Matrix, format.type)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace tandem::engine

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  tandem::engine::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
