// The quantised formats, from their definition in engine/quant: this is the specification.
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"
#include "engine/cpu/pack_blocks.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {
namespace {

// One block and the activations that meet it.
struct BlockSums {
  int32_t scaled = 0;  // sum of scale * dot over the runs of 16
  int32_t mins = 0;    // sum of min * sum of x over the same
};

BlockSums SumBlock(const IntegerBlock& block, int runs, const int8_t* x, const int32_t* sum16) {
  BlockSums sums;
  for (int j = 0; j < runs; ++j) {
    int32_t dot = 0;
    for (int i = 16 * j; i < 16 * j + 16; ++i) dot += block.q[i] * x[i];
    sums.scaled += block.scale[j] * dot;
    sums.mins += block.min[j] * sum16[j];
  }
  return sums;
}

void MatMulRow(const BlockFormat& format, const BlockLayout& layout, const MatMulArgs& args, int64_t o) {
  const int64_t elements = format.block_elements;
  const int64_t blocks = args.weights.cols / elements;
  const std::byte* packed = args.weights.data + o / kRowGroup * args.weights.group_bytes;
  const int lane = static_cast<int>(o % kRowGroup);
  for (int row = 0; row < args.rows; ++row) args.out[row * args.out_stride + o] = 0.0f;
  for (int64_t b = 0; b < blocks; ++b, packed += kRowGroup * format.block_bytes) {
    std::byte bytes[kLargestBlock];  // more than a block of any of these formats has
    IntegerBlock block;
    UnpackBlock(layout, packed, lane, bytes);
    format.decode(bytes, &block);
    for (int row = 0; row < args.rows; ++row) {
      const int64_t at = row * args.weights.cols + b * elements;
      const BlockSums sums = SumBlock(block, static_cast<int>(elements / 16), args.x.q + at, args.x.sum16 + at / 16);
      const float scale = args.x.scale[row * blocks + b];
      float& acc = args.out[row * args.out_stride + o];
      acc = std::fma(block.d * scale, static_cast<float>(sums.scaled), acc);
      if (format.has_mins) acc = std::fma(-(block.dmin * scale), static_cast<float>(sums.mins), acc);
    }
  }
}

}  // namespace

template <TensorType kType>
void MatMulBlocks(const MatMulArgs& args) {
  const BlockFormat& format = *FindBlockFormat(kType);
  const BlockLayout& layout = *FindBlockLayout(kType);
  const int64_t end = std::min(args.weights.rows, args.group_end * kRowGroup);
  for (int64_t o = args.group_begin * kRowGroup; o < end; ++o) MatMulRow(format, layout, args, o);
}

template void MatMulBlocks<TensorType::kQ4_0>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ4_1>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ5_0>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ5_1>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ8_0>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ2_K>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ3_K>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ4_K>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ5_K>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kQ6_K>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ4_NL>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ4_XS>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kMXFP4>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kTQ1_0>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kTQ2_0>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ2_XXS>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ2_XS>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ2_S>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ3_XXS>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ3_S>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ1_S>(const MatMulArgs&);
template void MatMulBlocks<TensorType::kIQ1_M>(const MatMulArgs&);

}  // namespace tandem::engine::scalar
