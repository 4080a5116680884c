// The formats of the values -1, 0, 1, with one scale for 256 of them: x = d * (t - 1), t in 0..2.
//
// TQ1_0, 54 bytes: u8 a[32] | u8 b[16] | u8 c[4] | half d.  Base 3 fractions: a byte v holds five (c: four) digits t,
//   the first of which is the integer part of 3 v / 256; multiplying v by 3 modulo 256 brings up the next.
//   Digit n of a[i] is element 32 n + i; of b[i] 160 + 16 n + i; of c[i] 240 + 4 n + i.
// TQ2_0, 66 bytes: 64 bytes of bit pairs | half d.  Run r of half h (k_formats.h), element l: byte 32 h + l, at bit 2r.
//   The pair 3 does not occur; it is read as t = 3.
#include <algorithm>
#include <array>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/integer_block.h"
#include "engine/quant/k_formats.h"
#include "engine/quant/scale_search.h"

namespace tandem::engine {
namespace {

constexpr size_t kTq1Bytes = 54, kTq1FactorAt = 52;
constexpr size_t kTq2Bytes = 66, kTq2FactorAt = 64;
constexpr Range kTernary = {-1, 1};

// The three runs of bytes of TQ1_0.
struct Tq1Run {
  size_t byte_at, bytes, first, digits;
};
constexpr std::array<Tq1Run, 3> kTq1Runs = {{{0, 32, 0, 5}, {32, 16, 160, 5}, {48, 4, 240, 4}}};

// The quants of a block, and its scale, as stored at `factor`.
std::array<int, kSuperBlock> ChooseQuants(const float* src, const float* importance, std::byte* factor) {
  const Samples samples(src, importance, kSuperBlock);
  const uint16_t half = ScaleToHalf(FitSymmetric(samples, kTernary));
  StoreU16(half, factor);
  std::array<int, kSuperBlock> q;
  for (size_t i = 0; i < kSuperBlock; ++i) q[i] = SymmetricQuant(samples.x[i], HalfToFloat(half), kTernary) + 1;
  return q;
}

void Begin(const std::byte* factor, IntegerBlock* out) {
  out->d = HalfToFloat(LoadU16(factor));
  out->dmin = 0;
  out->scale.fill(1);
  out->min.fill(0);
}

}  // namespace

void DecodeTq1_0(const std::byte* block, IntegerBlock* out) {
  Begin(block + kTq1FactorAt, out);
  for (const Tq1Run& run : kTq1Runs) {
    for (size_t i = 0; i < run.bytes; ++i) {
      unsigned value = std::to_integer<unsigned>(block[run.byte_at + i]);
      for (size_t n = 0; n < run.digits; ++n) {
        out->q[run.first + n * run.bytes + i] = static_cast<int8_t>(static_cast<int>(value * 3 >> 8) - 1);
        value = value * 3 & 255;
      }
    }
  }
}

void DecodeTq2_0(const std::byte* block, IntegerBlock* out) {
  Begin(block + kTq2FactorAt, out);
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const RunPlace place = PlaceInRun(i);
    out->q[i] =
        static_cast<int8_t>((std::to_integer<int>(block[32 * place.half + place.at]) >> (2 * place.run) & 3) - 1);
  }
}

void QuantizeTq1_0(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += kTq1Bytes) {
    const auto q = ChooseQuants(src + start, ImportanceAt(importance, start), dst + kTq1FactorAt);
    for (const Tq1Run& run : kTq1Runs) {
      for (size_t i = 0; i < run.bytes; ++i) {
        int digits = 0;
        for (size_t n = 0; n < 5; ++n) digits = 3 * digits + (n < run.digits ? q[run.first + n * run.bytes + i] : 0);
        // digits / 3^5 as a fraction of 256, rounded up so that its digits come back.
        dst[run.byte_at + i] = static_cast<std::byte>((digits * 256 + 242) / 243);
      }
    }
  }
}

void QuantizeTq2_0(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += kTq2Bytes) {
    std::fill(dst, dst + kTq2FactorAt, std::byte{0});
    const auto q = ChooseQuants(src + start, ImportanceAt(importance, start), dst + kTq2FactorAt);
    for (size_t i = 0; i < kSuperBlock; ++i) {
      const RunPlace place = PlaceInRun(i);
      dst[32 * place.half + place.at] |= static_cast<std::byte>(q[i] << (2 * place.run));
    }
  }
}

}  // namespace tandem::engine
