// The formats that are expanded into planes first (kernels/planes.h): sources of integer_kernel.h, and their matmul.
// Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"
#include "engine/cpu/kernels/neon/integer_kernel.h"
#include "engine/cpu/kernels/neon/words.h"

namespace tandem::engine {
namespace {

// One block of the planes of format F (expand_bits.h), whose units hold the signed values.
template <typename F>
struct PlaneSource {
  static constexpr int kSubElements = F::kBlock == kPlaneElements ? F::kSub : F::kBlock;
  static constexpr int kBlock = F::kBlock, kParts = kBlock / kSubElements, kSteps = kSubElements / 16;
  static constexpr int kRuns = 1, kSums = 1, kShift = 0;
  static constexpr bool kScaled = kParts > 1, kHasMins = F::kHasMins;
  using Scales = Nothing;

  const Planes& planes;
  int block;

  static constexpr int At(int part, int step, int) { return kSubElements * part + 16 * step; }
  Scales ScalesOf(int) const { return {}; }
  int32x4_t Scale(const Scales&, int quad, int part, int) const { return vld1q_s32(planes.scale[part] + 4 * quad); }
  float32x4_t Factor(int quad) const { return vld1q_f32(planes.d[block] + 4 * quad); }
  float32x4_t MinFactor(int quad) const { return vld1q_f32(planes.dmin[block] + 4 * quad); }

  template <typename Sums>
  void Load(int part, int step, int quad, Units (&out)[kRuns]) const {
    out[0] = Sums::LoadUnits(planes.unit[(kBlock * block + At(part, step, 0)) / 4] + 16 * quad);
  }

  template <int kRows>
  struct TokenMins {
    Tokens tokens;
    explicit TokenMins(const Tokens& t) : tokens(t) {}
  };
  template <int kRows>
  int32x4_t Mins(const Scales&, int quad, const TokenMins<kRows>& mins, int r) const {
    const int32_t* sum16 = mins.tokens.sum16 + r * mins.tokens.sum_stride;
    if constexpr (kScaled) {
      static_assert(kSubElements == 16);
      int32x4_t sum = vdupq_n_s32(0);
      for (int j = 0; j < kParts; ++j) sum = vmlaq_n_s32(sum, vld1q_s32(planes.min[j] + 4 * quad), sum16[j]);
      return sum;
    } else {
      return vdupq_n_s32(sum16[0] + sum16[1]);  // the one min is 1
    }
  }
};

// Takes the accumulators of tokens row .. row + kRows - 1 from the output, and puts them back.
template <typename F, typename Sums, int kRows>
inline void AddPlanes(const MatMulArgs& args, const Planes& planes, int64_t group, int64_t first_block, int blocks,
                      int row) {
  Float16Rows acc[kRows];
  for (int r = 0; r < kRows; ++r) acc[r] = first_block == 0 ? ZeroRows() : LoadGroup(args, group, row + r);
  for (int b = 0; b < blocks; ++b) {
    AddBlock<PlaneSource<F>, Sums, kRows>({planes, b}, TokensAt(args, row, first_block + b, F::kBlock), acc);
  }
  for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
}

template <typename F, template <int> typename Sums>
inline void MatMulByPlanes(const MatMulArgs& args) {
  constexpr int kBlocksAtOnce = kPlaneElements / F::kBlock;
  const int64_t blocks = args.weights.cols / F::kBlock;
  Planes planes;
  for (int64_t g = args.group_begin; g < args.group_end; ++g) {
    const std::byte* packed = args.weights.data + g * args.weights.group_bytes;
    for (int64_t b = 0; b < blocks; b += kBlocksAtOnce) {
      const int count = static_cast<int>(blocks - b < kBlocksAtOnce ? blocks - b : kBlocksAtOnce);
      for (int i = 0; i < count; ++i, packed += kRowGroup * F::kBytes) {
        PrefetchAfter<kRowGroup * F::kBytes>(packed);
        F::template Expand<Words>(packed, PlaneWriter<Words, 0>(&planes, i, i * (F::kBlock / 4)));
      }
      int row = 0;
      for (; row + 4 <= args.rows; row += 4) AddPlanes<F, Sums<4>, 4>(args, planes, g, b, count, row);
      for (; row + 2 <= args.rows; row += 2) AddPlanes<F, Sums<2>, 2>(args, planes, g, b, count, row);
      for (; row < args.rows; ++row) AddPlanes<F, Sums<1>, 1>(args, planes, g, b, count, row);
    }
  }
}

}  // namespace
}  // namespace tandem::engine
