// What the fuzzer of the block formats and the unit tests do with bytes: take them for weights of some format, read
// them, quantise what comes out, and multiply by them with every kernel set. Any crash, sanitizer report or broken
// promise (abort) is a finding. Declared by its two users: quant_fuzzer.cc, matmul_fuzz_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"

namespace tandem::engine {
namespace {

constexpr size_t kMostBlocks = 40;

void Require(bool promise) {
  if (!promise) std::abort();
}

const BlockFormat* ChooseFormat(std::byte choice) {
  std::vector<const BlockFormat*> formats;
  for (const BlockFormat& format : AllBlockFormats()) {
    if (format.computable()) formats.push_back(&format);
  }
  return formats[std::to_integer<size_t>(choice) % formats.size()];
}

// Quantised blocks are finite, whatever the values and the importance are.
void QuantizeAgain(const BlockFormat& format, const std::vector<float>& values) {
  if (format.quantize == nullptr) return;
  const std::vector<float> importance(values.rbegin(), values.rend());
  std::vector<std::byte> blocks(values.size() / format.block_elements * format.block_bytes);
  std::vector<float> back(values.size());
  for (const float* weights : {static_cast<const float*>(nullptr), importance.data()}) {
    format.quantize(values.data(), weights, blocks.data(), values.size());
    format.dequantize(blocks.data(), back.data(), back.size());
    if (format.block_elements == 1) continue;
    Require(std::all_of(back.begin(), back.end(), [](float value) { return std::isfinite(value); }));
  }
}

// A matrix of one block a row, times one token made of the same bytes.
void MultiplyEverywhere(const BlockFormat& format, std::span<const std::byte> weights) {
  ThreadPool pool(1, false);
  const int64_t rows = static_cast<int64_t>(weights.size() / format.block_bytes);
  const int64_t cols = format.block_elements;
  const auto matrix = PackedMatrix::Pack(format.type, rows, cols, weights, pool);
  Require(matrix.ok());
  const float f32 = -1.5f, scale = 0.25f;
  std::vector<int8_t> q(cols);
  std::vector<int32_t> sum16(std::max<int64_t>(1, cols / 16));
  for (int64_t k = 0; k < cols; ++k) {
    q[k] = std::max<int8_t>(-127, static_cast<int8_t>(weights[k % weights.size()]));
    sum16[k / 16] += q[k];
  }
  const auto multiply = [&](Isa isa) {
    std::vector<float> out(rows);
    KernelsFor(isa).MatMulFor(format.type)(
        {matrix->view(), {&f32, q.data(), &scale, sum16.data()}, 1, out.data(), rows, 0, matrix->groups()});
    return out;
  };
  const std::vector<float> want = multiply(Isa::kScalar);
  for (const Isa isa : SupportedIsas()) {
    const std::vector<float> got = multiply(isa);
    for (int64_t i = 0; i < rows; ++i) {
      Require(std::memcmp(&want[i], &got[i], sizeof(float)) == 0 || (std::isnan(want[i]) && std::isnan(got[i])));
    }
  }
}

}  // namespace

// The first byte chooses the format. False if there is no whole block behind it.
bool FuzzQuant(std::span<const std::byte> bytes) {
  if (bytes.empty()) return false;
  const BlockFormat& format = *ChooseFormat(bytes[0]);
  const size_t blocks = std::min(kMostBlocks, (bytes.size() - 1) / format.block_bytes);
  if (blocks == 0) return false;
  const std::span<const std::byte> weights = bytes.subspan(1, blocks * format.block_bytes);
  std::vector<float> values(blocks * format.block_elements);
  format.dequantize(weights.data(), values.data(), values.size());
  QuantizeAgain(format, values);
  MultiplyEverywhere(format, weights);
  return true;
}

}  // namespace tandem::engine
