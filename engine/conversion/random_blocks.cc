#include "engine/conversion/random_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::engine {
namespace {

using enum TensorType;

// Where a block of a format keeps the half that all its weights are multiples of, and, if it has one, the half that is
// subtracted or added. Layouts: engine/quant.
struct ScalePlaces {
  TensorType type;
  int scale_at;
  int offset_at;  // -1: none
};
constexpr ScalePlaces kPlaces[] = {
    {kQ4_0, 0, -1},    {kQ4_1, 0, 2},    {kQ5_0, 0, -1},    {kQ5_1, 0, 2},    {kQ8_0, 0, -1},
    {kQ2_K, 80, 82},   {kQ3_K, 108, -1}, {kQ4_K, 0, 2},     {kQ5_K, 0, 2},    {kQ6_K, 208, -1},
    {kIQ2_XXS, 0, -1}, {kIQ2_XS, 0, -1}, {kIQ3_XXS, 0, -1}, {kIQ1_S, 0, -1},  {kIQ4_NL, 0, -1},
    {kIQ3_S, 0, -1},   {kIQ2_S, 0, -1},  {kIQ4_XS, 0, -1},  {kTQ1_0, 52, -1}, {kTQ2_0, 64, -1},
};
constexpr int kIq1MScalesAt = 48;  // four words, of which the top nibbles make up the half

constexpr uint16_t kHalfOne = 0x3C00;

const ScalePlaces* FindPlaces(TensorType type) {
  const auto* it = std::find_if(std::begin(kPlaces), std::end(kPlaces), [&](const auto& p) { return p.type == type; });
  return it == std::end(kPlaces) ? nullptr : it;
}

bool IsFloat(TensorType type) { return type == kF32 || type == kF16 || type == kBF16; }

// The pair 3 means no weight in TQ2_0: it becomes 1, which is the weight 0.
void RemoveThrees(std::span<std::byte> pairs) {
  for (std::byte& four : pairs) four &= ~((four & four >> 1 & std::byte{0x55}) << 1);
}

void StoreHalf(uint16_t half, std::byte* at) { std::memcpy(at, &half, sizeof(half)); }

// SplitMix64: some gigabytes a second and thread.
void FillRandom(uint64_t seed, std::span<std::byte> out) {
  uint64_t state = seed * 0xD1342543DE82EF95u + 0x2545F4914F6CDD1Du;
  for (size_t at = 0; at < out.size(); at += sizeof(uint64_t)) {
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    std::memcpy(out.data() + at, &z, std::min(sizeof(z), out.size() - at));
  }
}

struct Moments {
  double mean = 0, deviation = 0;
};
Moments MomentsOf(std::span<const float> values) {
  double sum = 0, squares = 0;
  for (const float value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (const float value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / static_cast<double>(values.size()))};
}

// Sign and mantissa stay as drawn; the exponent becomes one of the four up to `exponent` (biased), by two drawn bits.
// So the spread is sqrt(0.775) times 2^exponent: E[m^2] = 7/3 for a mantissa in [1, 2), and (1 + 1/4 + 1/16 + 1/64)
// / 4.
template <typename Bits, int kMantissaBits>
void SetExponents(int exponent, std::span<std::byte> values) {
  constexpr Bits kMantissa = (Bits{1} << kMantissaBits) - 1;
  constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  for (size_t at = 0; at < values.size(); at += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, values.data() + at, sizeof(bits));
    const Bits lower = static_cast<Bits>(bits >> kMantissaBits & 3);
    bits = static_cast<Bits>((bits & (kSign | kMantissa)) | static_cast<Bits>((exponent - lower) << kMantissaBits));
    std::memcpy(values.data() + at, &bits, sizeof(bits));
  }
}
constexpr double kFloatSpread = 0.88;

}  // namespace

absl::StatusOr<RandomBlocks> RandomBlocks::Create(TensorType type, float spread) {
  const BlockFormat* format = FindBlockFormat(type);
  if (format == nullptr || !format->computable()) {
    return absl::UnimplementedError(absl::StrCat("weights of type ", format ? format->name : "unknown",
                                                 " cannot be drawn: Tandem does not compute with them"));
  }
  RandomBlocks blocks(*format);
  blocks.Calibrate(std::clamp(spread, 0x1p-10f, 1.0f));
  return blocks;
}

// How wide the drawn bits are at scale 1 is measured, not derived: the same way for every format.
void RandomBlocks::Calibrate(float spread) {
  constexpr size_t kElements = 65536;
  if (IsFloat(format_.type)) {
    exponent_ = static_cast<int>(std::lround(std::log2(spread / kFloatSpread)));
    return;
  }
  const size_t bytes = kElements / format_.block_elements * format_.block_bytes;
  std::vector<std::byte> blocks(bytes);
  std::vector<float> values(kElements);
  const auto measure = [&](uint16_t scale, uint16_t offset) {
    FillRandom(1, blocks);
    SetScales(blocks, scale, offset);
    format_.dequantize(blocks.data(), values.data(), values.size());
    return MomentsOf(values);
  };
  if (format_.type == kMXFP4) {
    constexpr uint16_t kUnitExponent = 128;
    const double wide = measure(kUnitExponent, 0).deviation;
    scale_ = static_cast<uint16_t>(kUnitExponent + std::lround(std::log2(spread / wide)));
    return;
  }
  const ScalePlaces* places = FindPlaces(format_.type);
  double offset = 0;
  if (places != nullptr && places->offset_at >= 0) {
    const double mean = measure(kHalfOne, 0).mean, of_offset = measure(0, kHalfOne).mean;
    offset = -mean / of_offset;  // of_offset is negative where the offset is subtracted
  }
  const double wide = measure(kHalfOne, FloatToHalf(static_cast<float>(offset))).deviation;
  scale_ = FloatToHalf(static_cast<float>(spread / wide));
  offset_ = FloatToHalf(static_cast<float>(offset * spread / wide));
}

void RandomBlocks::SetScales(std::span<std::byte> blocks, uint16_t scale, uint16_t offset) const {
  const ScalePlaces* places = FindPlaces(format_.type);
  for (std::byte* block = blocks.data(); block < blocks.data() + blocks.size(); block += format_.block_bytes) {
    if (places != nullptr) {
      StoreHalf(scale, block + places->scale_at);
      if (places->offset_at >= 0) StoreHalf(offset, block + places->offset_at);
      if (format_.type == kTQ2_0) RemoveThrees({block, static_cast<size_t>(places->scale_at)});
    } else if (format_.type == kMXFP4) {
      *block = static_cast<std::byte>(scale);
    } else if (format_.type == kIQ1_M) {
      for (int word = 0; word < 4; ++word) {
        std::byte& top = block[kIq1MScalesAt + 2 * word + 1];
        top = (top & std::byte{0x0F}) | static_cast<std::byte>((scale >> (4 * word) & 15) << 4);
      }
    }
  }
}

void RandomBlocks::Fill(uint64_t seed, std::span<std::byte> blocks) const {
  FillRandom(seed, blocks);
  if (format_.type == kF32) return SetExponents<uint32_t, 23>(127 + exponent_, blocks);
  if (format_.type == kF16) return SetExponents<uint16_t, 10>(15 + exponent_, blocks);
  if (format_.type == kBF16) return SetExponents<uint16_t, 7>(127 + exponent_, blocks);
  SetScales(blocks, scale_, offset_);
}

}  // namespace tandem::engine
