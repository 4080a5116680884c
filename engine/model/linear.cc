#include "engine/model/linear.h"

#include <bit>

namespace tandem::engine {

bool AllFinite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) bad |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
  return bad == 0;
}

Int8Rows Linear::RowAt(ActivationKind kind, int64_t row, int64_t cols) const {
  const bool small = kind == ActivationKind::kInt8Block32;
  const Int8Rows& all = small ? scratch_.int8_block32 : scratch_.int8_block256;
  return {all.q + row * cols, all.scale + row * (cols / (small ? 32 : 256)), all.sum16 + row * (cols / 16)};
}

bool Linear::PrepareRow(const InputForms& forms, const float* x, int64_t row, int64_t cols) const {
  if (!AllFinite(x, cols)) return false;
  if (forms.Has(ActivationKind::kInt8Block32)) {
    const Int8Rows to = RowAt(ActivationKind::kInt8Block32, row, cols);
    kernels_.quantize_block32(x, cols, to.q, to.scale, to.sum16);
  }
  if (forms.Has(ActivationKind::kInt8Block256)) {
    const Int8Rows to = RowAt(ActivationKind::kInt8Block256, row, cols);
    kernels_.quantize_block256(x, cols, to.q, to.scale, to.sum16);
  }
  return true;
}

bool Linear::PrepareNormedRow(const InputForms& forms, const float* weight, float eps, const float* x, int64_t row,
                              int64_t cols) const {
  const bool small = forms.Is(ActivationKind::kInt8Block32);
  const Int8Rows to = RowAt(small ? ActivationKind::kInt8Block32 : ActivationKind::kInt8Block256, row, cols);
  const auto kernel = small ? kernels_.rms_norm_quantize32 : kernels_.rms_norm_quantize256;
  return kernel(x, weight, cols, eps, to.q, to.scale, to.sum16);
}

void Linear::Multiply(const PackedMatrix& weights, const float* input, int64_t first_row, int64_t rows,
                      int64_t group_begin, int64_t group_end, float* output, int64_t stride) const {
  const int64_t cols = weights.cols();
  Activations x;
  const ActivationKind kind = ActivationKindFor(weights.type());
  if (kind == ActivationKind::kF32) {
    x.f32 = input + first_row * cols;
  } else {
    const Int8Rows from = RowAt(kind, first_row, cols);
    x.q = from.q;
    x.scale = from.scale;
    x.sum16 = from.sum16;
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
