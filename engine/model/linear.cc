#include "engine/model/linear.h"

#include <bit>

namespace tandem::engine {

bool AllFinite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) bad |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
  return bad == 0;
}

bool Linear::PrepareRow(const InputForms& forms, const float* x, int64_t row, int64_t cols) const {
  if (!AllFinite(x, cols)) return false;
  if (forms.Has(ActivationKind::kInt8Block32)) {
    const Int8Rows& to = scratch_.int8_block32;
    kernels_.quantize_block32(x, cols, to.q + row * cols, to.scale + row * (cols / 32), to.sum16 + row * (cols / 16));
  }
  if (forms.Has(ActivationKind::kInt8Block256)) {
    const Int8Rows& to = scratch_.int8_block256;
    kernels_.quantize_block256(x, cols, to.q + row * cols, to.scale + row * (cols / 256), to.sum16 + row * (cols / 16));
  }
  return true;
}

void Linear::Multiply(const PackedMatrix& weights, const float* input, int64_t first_row, int64_t rows,
                      int64_t group_begin, int64_t group_end, float* output, int64_t stride) const {
  const int64_t cols = weights.cols();
  Activations x;
  const ActivationKind kind = ActivationKindFor(weights.type());
  if (kind == ActivationKind::kF32) {
    x.f32 = input + first_row * cols;
  } else {
    const Int8Rows& from = kind == ActivationKind::kInt8Block32 ? scratch_.int8_block32 : scratch_.int8_block256;
    const int64_t block = kind == ActivationKind::kInt8Block32 ? 32 : 256;
    x.q = from.q + first_row * cols;
    x.scale = from.scale + first_row * (cols / block);
    x.sum16 = from.sum16 + first_row * (cols / 16);
  }
  kernels_.MatMulFor(weights.type())({.weights = weights.view(),
                                      .x = x,
                                      .rows = static_cast<int>(rows),
                                      .out = output,
                                      .out_stride = stride,
                                      .group_begin = group_begin,
                                      .group_end = group_end});
}

}  // namespace tandem::engine
