// Expanders (planes.h, expand_bits.h) of the codebook formats. Layout of each: engine/quant; codebooks: grids.h.
#pragma once

#include "engine/cpu/kernels/expand_bits.h"

namespace tandem::engine {
namespace {

// Four fields of 2 bits, one a byte. `fields` below 256.
template <typename W>
inline W SpreadPairs(W fields) {
  return (fields | (fields << 6) | (fields << 12) | (fields << 18)) & W::Splat(kBytes3);
}

// Four fields of 4 bits, one a byte. `fields` below 65536.
template <typename W>
inline W SpreadNibbles(W fields) {
  const W halves = (fields | (fields << 8)) & W::Splat(0x00ff00ff);
  return (halves | (halves << 4)) & W::Splat(kBytes15);
}

// Seven signs with the eighth that makes the number of minuses even.
template <typename W>
inline W CompleteSigns(W seven) {
  W parity = seven ^ (seven >> 4);
  parity = parity ^ (parity >> 2);
  parity = parity ^ (parity >> 1);
  return seven | ((parity & W::Splat(1)) << 7);
}

// Bytes with minus where the bit of their position is set in the low four bits of `signs`.
template <typename W>
inline W ApplySigns(W bytes, W signs) {
  const W minus = W::SpreadBits(signs);
  return W::SubtractBytes(bytes ^ minus, minus);
}

// Eight elements, units u and u + 1: levels of IQ2 by code, with eight signs.
template <typename W, typename Out>
inline void ExpandIq2(const uint16_t* grid, W code, W signs, int u, Out& out) {
  const typename W::Table table = W::MakeTable(kLevelsIq2, 0);
  const W fields = W::Gather(grid, code);
  const W low = W::Lookup(table, SpreadPairs(fields & W::Splat(0xff)));
  const W high = W::Lookup(table, SpreadPairs(fields >> 8));
  out.template Unit<0>(u, ApplySigns(low, signs));
  out.template Unit<0>(u + 1, ApplySigns(high, signs >> 4));
}

// Four elements: levels by code, with four signs.
template <typename W, typename Out>
inline void ExpandIq3(const uint16_t* grid, const int8_t (&levels)[16], W code, W signs, int u, Out& out) {
  const W bytes = W::Lookup(W::MakeTable(levels, 0), SpreadNibbles(W::Gather(grid, code)));
  out.template Unit<0>(u, ApplySigns(bytes, signs));
}

// Eight elements in eighths; `minus` is 0 or 1. The table holds the levels plus 9.
template <typename W, typename Out>
inline void ExpandIq1(W code, W minus, int u, Out& out) {
  const typename W::Table table = W::MakeTable(kLevelsIq1, 9 + 1);
  const W fields = W::Gather(kGridIq1, code);
  const W delta = W::Multiply(minus, W::Splat(2 * kBytes1));  // + 1 is in the table: minus takes 2 off
  out.template Unit<9>(u, W::SubtractBytes(W::Lookup(table, SpreadPairs(fields & W::Splat(0xff))), delta));
  out.template Unit<9>(u + 1, W::SubtractBytes(W::Lookup(table, SpreadPairs(fields >> 8)), delta));
}

// 2 s + 1.
template <typename W>
inline W OddScale(W s) {
  return (s << 1) | W::Splat(1);
}

// 4-bit scales of 16 elements each, eight a word.
template <typename W, typename Out>
inline void ExpandNibbleScales(W first, W second, Out& out) {
  for (int j = 0; j < 16; ++j) {
    out.Scale(j, OddScale(((j < 8 ? first : second) >> (4 * (j % 8))) & W::Splat(15)));
  }
}

template <>
struct Expander<TensorType::kIQ2_XXS> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 66, kBias = 43, kTop = 86;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 16> in{block};
    out.Factor(in.LeadingHalf(0), 0.125f);
    for (int b = 0; b < 8; ++b) {
      const W codes = in.Word(2 * b);
      const W word = in.Word(2 * b + 1);
      out.Scale(b, OddScale(word >> 28));
      for (int g = 0; g < 4; ++g) {
        const W signs = CompleteSigns((word >> (7 * g)) & W::Splat(127));
        ExpandIq2(kGridIq2Xxs, ByteOf(codes, g), signs, 8 * b + 2 * g, out);
      }
    }
  }
};

template <>
struct Expander<TensorType::kIQ2_XS> {
  static constexpr int kBlock = 256, kSub = 16, kBytes = 74, kBias = 43, kTop = 86;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 18> in{block};
    out.Factor(in.LeadingHalf(0), 0.125f);
    ExpandNibbleScales(in.Word(16), in.Word(17), out);
    for (int g = 0; g < 32; ++g) {
      const W code = in.Word(g / 2) >> (16 * (g % 2));
      const W signs = CompleteSigns((code >> 9) & W::Splat(127));
      ExpandIq2(kGridIq2Xs, code & W::Splat(511), signs, 2 * g, out);
    }
  }
};

template <>
struct Expander<TensorType::kIQ2_S> {
  static constexpr int kBlock = 256, kSub = 16, kBytes = 82, kBias = 43, kTop = 86;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 20> in{block};
    out.Factor(in.LeadingHalf(0), 0.125f);
    ExpandNibbleScales(in.Word(18), in.Word(19), out);
    for (int g = 0; g < 32; ++g) {
      const W upper = (in.Word(16 + g / 16) >> (2 * (g % 16))) & W::Splat(3);
      const W code = ByteOf(in.Word(g / 4), g % 4) | (upper << 8);
      ExpandIq2(kGridIq2S, code, ByteOf(in.Word(8 + g / 4), g % 4), 2 * g, out);
    }
  }
};

template <>
struct Expander<TensorType::kIQ3_XXS> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 98, kBias = 62, kTop = 124;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 24> in{block};
    out.Factor(in.LeadingHalf(0), 0.25f);
    for (int b = 0; b < 8; ++b) {
      const W word = in.Word(16 + b);
      out.Scale(b, OddScale(word >> 28));
      for (int g = 0; g < 8; ++g) {
        const W signs = CompleteSigns((word >> (7 * (g / 2))) & W::Splat(127)) >> (4 * (g % 2));
        ExpandIq3(kGridIq3Xxs, kLevelsIq3Xxs, ByteOf(in.Word(2 * b + g / 4), g % 4), signs, 8 * b + g, out);
      }
    }
  }
};

template <>
struct Expander<TensorType::kIQ3_S> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 110, kBias = 15, kTop = 30;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 27> in{block};
    out.Factor(in.LeadingHalf(0), 1.0f);
    for (int j = 0; j < 8; ++j) out.Scale(j, OddScale((in.Word(26) >> (4 * j)) & W::Splat(15)));
    for (int g = 0; g < 64; ++g) {
      const W upper = (in.Word(16 + g / 32) >> (g % 32)) & W::Splat(1);
      const W code = ByteOf(in.Word(g / 4), g % 4) | (upper << 8);
      ExpandIq3(kGridIq3S, kLevelsIq3S, code, in.Word(18 + g / 8) >> (4 * (g % 8)), g, out);
    }
  }
};

template <>
struct Expander<TensorType::kIQ1_S> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 50, kBias = 9, kTop = 18;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 12> in{block};
    out.Factor(in.LeadingHalf(0), 0.125f);
    for (int b = 0; b < 8; ++b) {
      const W upper = in.Word(8 + b / 2) >> (16 * (b % 2));
      out.Scale(b, OddScale((upper >> 12) & W::Splat(7)));
      for (int g = 0; g < 4; ++g) {
        const W code = ByteOf(in.Word(b), g) | (((upper >> (3 * g)) & W::Splat(7)) << 8);
        ExpandIq1(code, (upper >> 15) & W::Splat(1), 8 * b + 2 * g, out);
      }
    }
  }
};

template <>
struct Expander<TensorType::kIQ1_M> {
  static constexpr int kBlock = 256, kSub = 16, kBytes = 56, kBias = 9, kTop = 18;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 0, 14> in{block};
    const W first = in.Word(12);
    const W second = in.Word(13);
    const W top = W::Splat(0xf000);
    out.Factor(((first & top) >> 12) | (((first >> 16) & top) >> 8) | ((second & top) >> 4) | ((second >> 16) & top),
               0.125f);
    for (int j = 0; j < 16; ++j) {
      const W word = (j < 8 ? first : second) >> (16 * (j / 4 % 2));
      out.Scale(j, OddScale((word >> (3 * (j % 4))) & W::Splat(7)));
    }
    for (int g = 0; g < 32; ++g) {
      const W upper = in.Word(8 + g / 8) >> (4 * (g % 8));
      const W code = ByteOf(in.Word(g / 4), g % 4) | ((upper & W::Splat(7)) << 8);
      ExpandIq1(code, (upper >> 3) & W::Splat(1), 2 * g, out);
    }
  }
};

}  // namespace
}  // namespace tandem::engine
