// Expanders (planes.h) of the formats that keep their quants as bit fields. Layout of each: engine/quant. An expander
// says:
//   kBlock     elements a block            kSub      elements a scale, in super-blocks
//   kBytes     of one row's block          kHasMins  BlockFormat::has_mins
//   kBias      what its fields hold beyond the value; kTop  the largest field
#pragma once

#include "engine/cpu/kernels/planes.h"
#include "engine/quant/grids.h"

namespace tandem::engine {
namespace {

constexpr uint32_t kBytes1 = 0x01010101, kBytes3 = 0x03030303, kBytes15 = 0x0f0f0f0f;

template <TensorType kType>
struct Expander;

// Q4_0, Q4_1, Q5_0, Q5_1.
template <bool kFiveBits, bool kMins>
struct ExpandNibbles {
  static constexpr int kBlock = 32, kSub = 32, kLead = kMins ? 4 : 2, kWords = kFiveBits ? 5 : 4;
  static constexpr int kBytes = kLead + 4 * kWords, kTop = kFiveBits ? 31 : 15, kBias = kMins ? 0 : (kTop + 1) / 2;
  static constexpr bool kHasMins = kMins;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, kLead, kWords> in{block};
    out.Factor(in.LeadingHalf(0), 1.0f);
    if constexpr (kMins) out.MinFactor(in.LeadingHalf(1), -1.0f);
    for (int p = 0; p < 4; ++p) {
      const W both = in.Word(kWords - 4 + p);
      W low = both & W::Splat(kBytes15);
      W high = (both >> 4) & W::Splat(kBytes15);
      if constexpr (kFiveBits) {
        const W upper = in.Word(0);
        low = low | (W::SpreadBits(upper >> (4 * p)) & W::Splat(0x10101010));
        high = high | (W::SpreadBits(upper >> (16 + 4 * p)) & W::Splat(0x10101010));
      }
      out.template Unit<kBias>(p, low);
      out.template Unit<kBias>(p + 4, high);
    }
  }
};
template <>
struct Expander<TensorType::kQ4_0> : ExpandNibbles<false, false> {};
template <>
struct Expander<TensorType::kQ4_1> : ExpandNibbles<false, true> {};
template <>
struct Expander<TensorType::kQ5_0> : ExpandNibbles<true, false> {};
template <>
struct Expander<TensorType::kQ5_1> : ExpandNibbles<true, true> {};

template <>
struct Expander<TensorType::kQ8_0> {
  static constexpr int kBlock = 32, kSub = 32, kBytes = 34, kBias = 128, kTop = 255;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 8> in{block};
    out.Factor(in.LeadingHalf(0), 1.0f);
    for (int u = 0; u < 8; ++u) out.template Unit<0>(u, in.Word(u));
  }
};

// Units p and p + 4 from a vector of nibbles that name levels; the table holds level + kBias.
template <int kBias, typename W, typename Out>
inline void ExpandLevels(W both, const int8_t (&levels)[16], int unit, Out& out) {
  const typename W::Table table = W::MakeTable(levels, kBias);
  out.template Unit<kBias>(unit, W::Lookup(table, both & W::Splat(kBytes15)));
  out.template Unit<kBias>(unit + 4, W::Lookup(table, (both >> 4) & W::Splat(kBytes15)));
}

template <>
struct Expander<TensorType::kIQ4_NL> {
  static constexpr int kBlock = 32, kSub = 32, kBytes = 18, kBias = 127, kTop = 240;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 2, 4> in{block};
    out.Factor(in.LeadingHalf(0), 1.0f);
    for (int p = 0; p < 4; ++p) ExpandLevels<kBias>(in.Word(p), kLevelsIq4, p, out);
  }
};

template <>
struct Expander<TensorType::kMXFP4> {
  static constexpr int kBlock = 32, kSub = 32, kBytes = 17, kBias = 12, kTop = 24;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 1, 4> in{block};
    for (int lane = 0; lane < kRowGroup; ++lane) {
      const uint32_t e = static_cast<uint8_t>(block[lane]);
      const uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
      __builtin_memcpy(out.factors() + lane, &bits, sizeof(bits));
    }
    for (int p = 0; p < 4; ++p) ExpandLevels<kBias>(in.Word(p), kLevelsMxfp4, p, out);
  }
};

template <>
struct Expander<TensorType::kIQ4_XS> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 136, kBias = 127, kTop = 240;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 4, 33> in{block};
    out.Factor(in.LeadingHalf(0), 1.0f);
    const W upper = in.LeadingHalf(1);
    for (int j = 0; j < 8; ++j) {
      const W scale = ((in.Word(0) >> (4 * j)) & W::Splat(15)) | (((upper >> (2 * j)) & W::Splat(3)) << 4);
      out.Scale(j, W::Add(scale, W::Splat(static_cast<uint32_t>(-32))));
      for (int p = 0; p < 4; ++p) ExpandLevels<kBias>(in.Word(1 + 4 * j + p), kLevelsIq4, 8 * j + p, out);
    }
  }
};

template <>
struct Expander<TensorType::kQ2_K> {
  static constexpr int kBlock = 256, kSub = 16, kBytes = 84, kBias = 0, kTop = 3;
  static constexpr bool kHasMins = true;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 0, 20> in{block};
    out.Factor(in.TrailingHalf(0), 1.0f);
    out.MinFactor(in.TrailingHalf(1), 1.0f);
    for (int j = 0; j < 16; ++j) {
      const W both = ByteOf(in.Word(j / 4), j % 4);
      out.Scale(j, both & W::Splat(15));
      out.Min(j, both >> 4);
    }
    for (int v = 0; v < 16; ++v) {
      const W pairs = in.Word(4 + v);
      for (int r = 0; r < 4; ++r) {
        out.template Unit<0>(32 * (v / 8) + 8 * r + v % 8, (pairs >> (2 * r)) & W::Splat(kBytes3));
      }
    }
  }
};

template <>
struct Expander<TensorType::kQ3_K> {
  static constexpr int kBlock = 256, kSub = 16, kBytes = 110, kBias = 4, kTop = 7;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 0, 27> in{block};
    out.Factor(in.TrailingHalf(0), 1.0f);
    for (int q = 0; q < 4; ++q) {  // scales 4q .. 4q + 3, one a byte
      const W low = (in.Word(24 + q % 2) >> (4 * (q / 2))) & W::Splat(kBytes15);
      const W scales = low | (((in.Word(26) >> (2 * q)) & W::Splat(kBytes3)) << 4);
      for (int i = 0; i < 4; ++i) {
        out.Scale(4 * q + i, W::Add(ByteOf(scales, i), W::Splat(static_cast<uint32_t>(-32))));
      }
    }
    for (int v = 0; v < 16; ++v) {
      const W pairs = in.Word(8 + v);
      const W third = in.Word(v % 8) >> (4 * (v / 8));
      for (int r = 0; r < 4; ++r) {
        const W bit = (third >> r) & W::Splat(kBytes1);
        out.template Unit<4>(32 * (v / 8) + 8 * r + v % 8, ((pairs >> (2 * r)) & W::Splat(kBytes3)) | (bit << 2));
      }
    }
  }
};

// Q4_K, Q5_K.
template <bool kFiveBits>
struct ExpandNibblesK {
  static constexpr int kBlock = 256, kSub = 32, kUpper = 3, kNibbles = kUpper + (kFiveBits ? 8 : 0);
  static constexpr int kWords = kNibbles + 32, kBytes = 4 + 4 * kWords, kBias = 0, kTop = kFiveBits ? 31 : 15;
  static constexpr bool kHasMins = true;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 4, kWords> in{block};
    out.Factor(in.LeadingHalf(0), 1.0f);
    out.MinFactor(in.LeadingHalf(1), 1.0f);
    const W a = in.Word(0), b = in.Word(1), c = in.Word(2);  // one byte for each of four sub-blocks
    const W upper_two = W::Splat(0x30303030);
    const W scales[2] = {a & W::Splat(63 * kBytes1), (c & W::Splat(kBytes15)) | ((a >> 2) & upper_two)};
    const W mins[2] = {b & W::Splat(63 * kBytes1), ((c >> 4) & W::Splat(kBytes15)) | ((b >> 2) & upper_two)};
    for (int j = 0; j < 8; ++j) {
      out.Scale(j, ByteOf(scales[j / 4], j % 4));
      out.Min(j, ByteOf(mins[j / 4], j % 4));
    }
    for (int v = 0; v < 32; ++v) {
      const W both = in.Word(kNibbles + v);
      W low = both & W::Splat(kBytes15);
      W high = (both >> 4) & W::Splat(kBytes15);
      if constexpr (kFiveBits) {
        const W fifth = in.Word(kUpper + v % 8) >> (2 * (v / 8));
        low = low | ((fifth & W::Splat(kBytes1)) << 4);
        high = high | (((fifth >> 1) & W::Splat(kBytes1)) << 4);
      }
      const int unit = 16 * (v / 8) + v % 8;
      out.template Unit<0>(unit, low);
      out.template Unit<0>(unit + 8, high);
    }
  }
};
template <>
struct Expander<TensorType::kQ4_K> : ExpandNibblesK<false> {};
template <>
struct Expander<TensorType::kQ5_K> : ExpandNibblesK<true> {};

template <>
struct Expander<TensorType::kQ6_K> {
  static constexpr int kBlock = 256, kSub = 16, kBytes = 210, kBias = 32, kTop = 63;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 0, 52> in{block};
    out.Factor(in.TrailingHalf(0), 1.0f);
    for (int j = 0; j < 16; ++j) {
      const W byte = ByteOf(in.Word(48 + j / 4), j % 4);
      out.Scale(j, W::Add(byte ^ W::Splat(128), W::Splat(static_cast<uint32_t>(-128))));  // sign-extended
    }
    for (int v = 0; v < 16; ++v) {
      const int half = v / 8, p = v % 8;
      const W low0 = in.Word(16 * half + p), low1 = in.Word(16 * half + 8 + p), top = in.Word(32 + v);
      const auto run = [&](int r, W nibble, W two) {
        const W value = (nibble & W::Splat(kBytes15)) | ((two & W::Splat(kBytes3)) << 4);
        out.template Unit<32>(32 * half + 8 * r + p, value);
      };
      run(0, low0, top);
      run(1, low1, top >> 2);
      run(2, low0 >> 4, top >> 4);
      run(3, low1 >> 4, top >> 6);
    }
  }
};

template <>
struct Expander<TensorType::kTQ2_0> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 66, kBias = 1, kTop = 3;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 0, 16> in{block};
    out.Factor(in.TrailingHalf(0), 1.0f);
    for (int j = 0; j < 8; ++j) out.Scale(j, W::Splat(1));
    for (int v = 0; v < 16; ++v) {
      for (int r = 0; r < 4; ++r) {
        out.template Unit<1>(32 * (v / 8) + 8 * r + v % 8, (in.Word(v) >> (2 * r)) & W::Splat(kBytes3));
      }
    }
  }
};

template <>
struct Expander<TensorType::kTQ1_0> {
  static constexpr int kBlock = 256, kSub = 32, kBytes = 54, kBias = 1, kTop = 2;
  static constexpr bool kHasMins = false;

  template <typename W, typename Out>
  static void Expand(const std::byte* block, Out out) {
    const PackedWords<W, 0, 13> in{block};
    out.Factor(in.TrailingHalf(0), 1.0f);
    for (int j = 0; j < 8; ++j) out.Scale(j, W::Splat(1));
    for (int v = 0; v < 8; ++v) ExpandDigits<5, W>(in.Word(v), v, 8, out);
    for (int v = 0; v < 4; ++v) ExpandDigits<5, W>(in.Word(8 + v), 40 + v, 4, out);
    ExpandDigits<4, W>(in.Word(12), 60, 1, out);
  }

  // Digit n goes to unit first + n * stride. It is the integer part of 3 v / 256: 1 from 86 on, 2 from 171 on.
  template <int kDigits, typename W, typename Out>
  static void ExpandDigits(W value, int first, int stride, Out& out) {
    const W one = W::Splat(kBytes1);
    for (int n = 0; n < kDigits; ++n) {
      const W above85 = W::MinBytes(W::SubtractBytesToZero(value, W::Splat(85 * kBytes1)), one);
      const W above170 = W::MinBytes(W::SubtractBytesToZero(value, W::Splat(170 * kBytes1)), one);
      out.template Unit<1>(first + n * stride, W::AddBytes(above85, above170));
      value = W::AddBytes(W::AddBytes(value, value), value);
    }
  }
};

}  // namespace
}  // namespace tandem::engine
