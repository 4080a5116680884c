// The product of quantised weights and int8 activations that all NEON kernels share. Rules as in
// kernels/vector_common.h.
//
// A Source says how the values of a block of 16 rows are had:
//   kBlock     elements a block
//   kParts     the parts it is read in; each is kSteps times four adjacent words of the file, and words unpack to
//              kRuns runs of 16 elements, the first at element At(part, step, run) of the block
//   kSums      the dot products a part has, kRuns of them with a scale each, or 1
//   kScaled    whether dot products are multiplied by scales; kHasMins
//   kShift     its values are 2^kShift times the weights', which saves it work
//   Load       the words of a step, in the order of a Sums class (neon/sdot.h, neon_i8mm/smmla.h), unpacked
//   Scales     what it keeps of the scales of a quad; Scale, of one sub-block
//   TokenMins  what it keeps of the sums of kRows tokens; Mins, those of token r times the mins of a quad
#pragma once

#include "engine/cpu/kernels/neon/sdot.h"

namespace tandem::engine {
namespace {

// The tokens of one call: their activations from the block's first element on.
struct Tokens {
  const int8_t* x;
  const int32_t* sum16;
  const float* scale;
  int64_t x_stride, sum_stride, scale_stride;
};

inline Tokens TokensAt(const MatMulArgs& args, int row, int64_t block, int block_elements) {
  const int64_t cols = args.weights.cols;
  const int64_t blocks = cols / block_elements;
  const int64_t at = row * cols + block * block_elements;
  return {args.x.q + at, args.x.sum16 + at / 16, args.x.scale + row * blocks + block, cols, cols / 16, blocks};
}

// What a source without mins or scales keeps of them.
struct Nothing {};
template <int kRows>
struct NoMins {
  explicit NoMins(const Tokens&) {}
};

// sum[q][r] = the sum over the parts of scale * dot, for quads first .. first + kCount - 1 and kRows tokens.
template <typename Source, typename Sums, int kRows, int kCount>
inline void SumBlock(const Source& source, const typename Source::Scales (&scales)[kCount], const Tokens& t, int first,
                     int32x4_t (&sum)[kCount][kRows]) {
#pragma GCC unroll 1
  for (int part = 0; part < Source::kParts; ++part) {
    Sums dots[kCount][Source::kSums];
#pragma GCC unroll 2
    for (int step = 0; step < Source::kSteps; ++step) {
      typename Sums::Inputs in[Source::kRuns];
      for (int run = 0; run < Source::kRuns; ++run) {
        in[run] = Sums::LoadInputs(t.x + Source::At(part, step, run), t.x_stride);
      }
#pragma GCC unroll 4
      for (int q = 0; q < kCount; ++q) {
        Units units[Source::kRuns];
        source.template Load<Sums>(part, step, first + q, units);
        for (int run = 0; run < Source::kRuns; ++run) dots[q][run % Source::kSums].Add(units[run], in[run]);
      }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kCount; ++q) {
      if constexpr (!Source::kScaled) {
        static_assert(Source::kParts == 1 && Source::kSums == 1);
        for (int r = 0; r < kRows; ++r) sum[q][r] = dots[q][0].Token(r);
      } else {
#pragma GCC unroll 4
        for (int run = 0; run < Source::kSums; ++run) {
          const int32x4_t scale = source.Scale(scales[q], first + q, part, run);
          for (int r = 0; r < kRows; ++r) {
            const int32x4_t dot = dots[q][run].Token(r);
            sum[q][r] = part == 0 && run == 0 ? vmulq_s32(dot, scale) : vmlaq_s32(sum[q][r], dot, scale);
          }
        }
      }
    }
  }
}

// acc[r] of kRows tokens over one block.
template <typename Source, typename Sums, int kRows>
inline void AddBlock(const Source& source, const Tokens& t, Float16Rows (&acc)[kRows]) {
  constexpr int kSumsARow = 16 / (kRows * Source::kSums);  // half of the registers hold sums
  constexpr int kCount = kSumsARow < kQuads ? kSumsARow : kQuads;
  const typename Source::template TokenMins<kRows> token_mins(t);
  for (int first = 0; first < kQuads; first += kCount) {
    typename Source::Scales scales[kCount];
    for (int q = 0; q < kCount; ++q) scales[q] = source.ScalesOf(first + q);
    int32x4_t sum[kCount][kRows];
    SumBlock<Source, Sums, kRows, kCount>(source, scales, t, first, sum);
    for (int q = 0; q < kCount; ++q) {
      const float32x4_t d = source.Factor(first + q);
      for (int r = 0; r < kRows; ++r) {
        const float xs = t.scale[r * t.scale_stride];
        float32x4_t& a = acc[r].quad[first + q];
        int32x4_t dots = sum[q][r];
        if constexpr (Source::kShift > 0) dots = vshrq_n_s32(dots, Source::kShift);
        a = vfmaq_f32(a, vmulq_n_f32(d, xs), vcvtq_f32_s32(dots));
        if constexpr (Source::kHasMins) {
          const int32x4_t mins = source.Mins(scales[q], first + q, token_mins, r);
          a = vfmsq_f32(a, vmulq_n_f32(source.MinFactor(first + q), xs), vcvtq_f32_s32(mins));
        }
      }
    }
  }
}

// A source that reads packed blocks of 16 * kBytes bytes where they lie.
template <typename Source, template <int> typename Sums>
struct MatMulPacked {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    static_assert(kGroups == 1);
    constexpr int kBlockBytes = kRowGroup * Source::kBytes;
    const std::byte* block = args.weights.data + group * args.weights.group_bytes;
    Float16Rows acc[kRows];
    for (int r = 0; r < kRows; ++r) acc[r] = ZeroRows();
    for (int64_t b = 0; b < args.weights.cols / Source::kBlock; ++b, block += kBlockBytes) {
      if (row == 0) PrefetchAfter<kBlockBytes>(block);
      AddBlock<Source, Sums<kRows>, kRows>(Source{block}, TokensAt(args, row, b, Source::kBlock), acc);
    }
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace
}  // namespace tandem::engine
