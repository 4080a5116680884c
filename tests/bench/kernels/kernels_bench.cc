// One thread: GB/s of weights and GOPS of every matmul and kernel set, for one token (decode: should come near the read
// bandwidth, printed first), for one token with weights in the L2 cache, for 8 tokens (a batch of decodes) and for 64
// (prefill); elements per second of the other kernels. Rates are per second of processor time.
//
//   kernels_bench --benchmark_filter='q4_k/avx512'
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/cache/kv_format.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"

namespace tandem::engine {
namespace {

constexpr int64_t kCols = 4096;

void ReadBandwidth(benchmark::State& state) {
  const std::vector<uint64_t> data(size_t{128} << 17, 1);  // 128 MiB
  for (auto _ : state) {
    uint64_t sum = 0;
    for (const uint64_t value : data) sum += value;
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(state.iterations() * data.size() * sizeof(uint64_t));
}

// Weights in the form of `type`: random values that repeat row by row, so that even slow quantisers are soon done; the
// codebook formats, which have none, get random bits under a small scale.
PackedMatrix RandomMatrix(TensorType type, int64_t rows, ThreadPool& pool) {
  std::mt19937_64 rng(1);
  const BlockFormat& format = *FindBlockFormat(type);
  const size_t row_bytes = *TensorBytes(type, std::vector<uint64_t>{kCols});
  std::vector<std::byte> row(row_bytes);
  if (format.quantize != nullptr) {
    std::vector<float> values(kCols);
    for (float& value : values) value = static_cast<float>(static_cast<int>(rng() & 1023) - 512) / 1024.0f;
    format.quantize(values.data(), nullptr, row.data(), values.size());
  } else {
    for (std::byte& b : row) b = static_cast<std::byte>(rng() & 0x3f);
  }
  std::vector<std::byte> bytes(row_bytes * rows);
  for (int64_t i = 0; i < rows; ++i) std::copy(row.begin(), row.end(), bytes.begin() + i * row_bytes);
  return *PackedMatrix::Pack(type, rows, kCols, bytes, pool);
}

void MatMul(benchmark::State& state, TensorType type, Isa isa, int tokens, int64_t rows) {
  ThreadPool pool(1, false);
  const PackedMatrix w = RandomMatrix(type, rows, pool);
  const std::vector<float> f32(tokens * kCols, 0.5f);
  const std::vector<int8_t> q(tokens * kCols, 3);
  const std::vector<float> scale(tokens * kCols / 32, 0.01f);
  const std::vector<int32_t> sum16(tokens * kCols / 16, 48);
  std::vector<float> out(tokens * rows);
  const MatMulArgs args = {w.view(),  {f32.data(), q.data(), scale.data(), sum16.data()}, tokens, out.data(), rows, 0,
                           w.groups()};
  const KernelTable::MatMul kernel = KernelsFor(isa).MatMulFor(type);
  for (auto _ : state) {
    kernel(args);
    benchmark::ClobberMemory();
  }
  const double runs = static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(runs * static_cast<double>(w.bytes()) * 1e-9, Counter::kIsRate);
  state.counters["GOPS"] = Counter(runs * 2e-9 * static_cast<double>(rows * kCols * tokens), Counter::kIsRate);
}

// Queries of 128 elements over 4096 keys in pages of 32, or of 576 over keys that hold the values; GB/s counts keys and
// values once.
void Attention(benchmark::State& state, Isa isa, KvType type, int queries, bool compressed) {
  constexpr int kKeys = 4096;
  constexpr int kPage = 32;
  const int key_dim = compressed ? 576 : 128, value_dim = compressed ? 512 : 128;
  const uint64_t key_bytes = KvBytes(type, key_dim) * kPage;
  const uint64_t page_bytes = key_bytes + (compressed ? 0 : KvBytes(type, value_dim) * kPage);
  const std::vector<uint16_t> memory(page_bytes * kKeys / kPage / sizeof(uint16_t), 0x3000);
  std::vector<uint32_t> pages;
  for (uint32_t p = 0; p < kKeys / kPage; ++p) pages.push_back(p);
  const std::vector<float> q(queries * key_dim, 0.1f);
  std::vector<int8_t> int8(q.size());
  std::vector<float> scale(q.size() / 32);
  std::vector<int32_t> sum16(q.size() / 16);
  KernelsFor(isa).quantize_block32(q.data(), q.size(), int8.data(), scale.data(), sum16.data());
  std::vector<float> out(queries * value_dim);
  std::vector<AttentionQuery> heads;
  for (int i = 0; i < queries; ++i) {
    const int64_t at = int64_t{i} * key_dim;
    heads.push_back({.q = q.data() + at,
                     .int8 = {.q = int8.data() + at, .scale = scale.data() + at / 32, .sum16 = sum16.data() + at / 16},
                     .out = out.data() + int64_t{i} * value_dim,
                     .sink = nullptr,
                     .first_key = 0,
                     .num_keys = kKeys});
  }
  const std::byte* keys = reinterpret_cast<const std::byte*>(memory.data());
  const AttentionArgs args = {.queries = heads.data(),
                              .count = queries,
                              .keys = keys,
                              .values = compressed ? nullptr : keys + key_bytes,
                              .page_bytes = page_bytes,
                              .pages = pages.data(),
                              .page_tokens = kPage,
                              .type = type,
                              .key_dim = key_dim,
                              .value_dim = value_dim,
                              .scale = 0.09f,
                              .cap = 0};
  for (auto _ : state) {
    KernelsFor(isa).attention(args);
    benchmark::ClobberMemory();
  }
  const double runs = static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(runs * static_cast<double>(memory.size()) * 2e-9, Counter::kIsRate);
  state.counters["GFLOPS"] = Counter(runs * 2e-9 * queries * kKeys * (key_dim + value_dim), Counter::kIsRate);
}

void VectorOp(benchmark::State& state, Isa isa, int op) {
  constexpr int64_t kLength = 8192;
  const std::vector<float> a(kLength, 0.7f);
  const std::vector<float> b(kLength, 1.3f);
  std::vector<float> out(kLength, 0.0f);
  std::vector<int8_t> q(kLength);
  std::vector<float> scale(kLength / 32);
  std::vector<int32_t> sum16(kLength / 16);
  std::vector<uint16_t> half(kLength);
  const KernelTable& kernels = KernelsFor(isa);
  for (auto _ : state) {
    if (op == 0) kernels.rms_norm(a.data(), b.data(), kLength, 1e-5f, out.data());
    if (op == 1) kernels.silu_mul(a.data(), b.data(), kLength, out.data());
    if (op == 2) kernels.add(a.data(), kLength, out.data());
    if (op == 3) kernels.rope_pairs(out.data(), kLength / 128, 128, 128, a.data(), b.data());
    if (op == 4) kernels.quantize_block32(a.data(), kLength, q.data(), scale.data(), sum16.data());
    if (op == 5) kernels.quantize_block256(a.data(), kLength, q.data(), scale.data(), sum16.data());
    if (op == 6) kernels.f32_to_f16(a.data(), kLength, half.data());
    if (op == 7) kernels.rms_norm_quantize32(a.data(), b.data(), kLength, 1e-5f, q.data(), scale.data(), sum16.data());
    if (op == 8) kernels.rms_norm_quantize256(a.data(), b.data(), kLength, 1e-5f, q.data(), scale.data(), sum16.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kLength);
}

// What it costs to give all threads an empty part and to meet again.
void ForkJoin(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)), true);
  for (auto _ : state) pool.Run([](int part) { benchmark::DoNotOptimize(part); });
}

void RegisterAll() {
  benchmark::RegisterBenchmark("read_bandwidth", ReadBandwidth)->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("fork_join", ForkJoin)
      ->DenseRange(2, std::max(2, ThreadPool::PhysicalCores()))
      ->UseRealTime();
  constexpr const char* kOps[] = {"rms_norm",
                                  "silu_mul",
                                  "add",
                                  "rope_pairs",
                                  "quantize_block32",
                                  "quantize_block256",
                                  "f32_to_f16",
                                  "rms_norm_quantize32",
                                  "rms_norm_quantize256"};
  for (const Isa isa : SupportedIsas()) {
    const std::string suffix = absl::StrCat("/", IsaName(isa));
    for (const BlockFormat& format : AllBlockFormats()) {
      const TensorType type = format.type;
      if (!HasKernels(type)) continue;
      const std::string name = absl::AsciiStrToLower(format.name) + suffix;
      // Decode: about 100 MB of weights, far beyond the caches; scalar is bound by arithmetic anyway.
      const int64_t row_bytes = static_cast<int64_t>(PackedGroupBytes(type, kCols) / kRowGroup);
      const int64_t decode_rows = isa == Isa::kScalar ? 256 : 100'000'000 / row_bytes;
      benchmark::RegisterBenchmark((name + "/1").c_str(), MatMul, type, isa, 1, decode_rows)
          ->Unit(benchmark::kMillisecond);
      benchmark::RegisterBenchmark((name + "/1_cached").c_str(), MatMul, type, isa, 1, 64)
          ->Unit(benchmark::kMicrosecond);
      benchmark::RegisterBenchmark((name + "/8_cached").c_str(), MatMul, type, isa, 8, 64)
          ->Unit(benchmark::kMicrosecond);
      benchmark::RegisterBenchmark((name + "/8").c_str(), MatMul, type, isa, 8, decode_rows)
          ->Unit(benchmark::kMillisecond);
      benchmark::RegisterBenchmark((name + "/64").c_str(), MatMul, type, isa, 64, isa == Isa::kScalar ? 16 : 512)
          ->Unit(benchmark::kMillisecond);
    }
    for (const KvFormat& kv : AllKvFormats()) {
      for (const int queries : {1, 4, 32}) {
        for (const bool compressed : {false, true}) {
          const std::string kind = compressed ? "attention_compressed_" : "attention_";
          const std::string name = absl::StrCat(kind, kv.name, suffix, "/", queries);
          benchmark::RegisterBenchmark(name.c_str(), Attention, isa, kv.type, queries, compressed)
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
    for (int op = 0; op < 9; ++op) benchmark::RegisterBenchmark((kOps[op] + suffix).c_str(), VectorOp, isa, op);
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
