#include "engine/quant/block_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/quant/conversions.h"
#include "engine/quant/integer_block.h"

namespace tandem::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie in the file: little-endian");

// A format that is numbers itself.
constexpr BlockFormat Floats(TensorType type, absl::string_view name, uint32_t bytes,
                             BlockFormat::Dequantize dequantize, BlockFormat::Quantize quantize) {
  return {type, name, 1, bytes, false, nullptr, dequantize, quantize};
}

// A format that Tandem can list but not compute with.
constexpr BlockFormat Listed(TensorType type, absl::string_view name, uint32_t elements, uint32_t bytes) {
  return {type, name, elements, bytes, false, nullptr, nullptr, nullptr};
}

template <BlockFormat::Decode kDecode, size_t kElements, size_t kBytes>
void DequantizeBlocks(const std::byte* src, float* dst, size_t count) {
  IntegerBlock block;
  for (size_t start = 0; start < count; start += kElements, src += kBytes) {
    kDecode(src, &block);
    for (size_t i = 0; i < kElements; ++i) {
      const float scale = block.d * static_cast<float>(block.scale[i / 16]);
      const float min = block.dmin * static_cast<float>(block.min[i / 16]);
      *dst++ = scale * static_cast<float>(block.q[i]) - min;
    }
  }
}

// A format of quantised blocks; `quantize` null if there is none.
template <BlockFormat::Decode kDecode, size_t kElements, size_t kBytes>
constexpr BlockFormat Blocks(TensorType type, absl::string_view name, BlockFormat::Quantize quantize,
                             bool has_mins = false) {
  return {type, name, kElements, kBytes, has_mins, kDecode, DequantizeBlocks<kDecode, kElements, kBytes>, quantize};
}

using enum TensorType;

constexpr std::array kFormats = {
    Floats(kF32, "F32", 4, DequantizeF32, QuantizeF32),
    Floats(kF16, "F16", 2, DequantizeF16, QuantizeF16),
    Blocks<DecodeQ4_0, 32, 18>(kQ4_0, "Q4_0", QuantizeQ4_0),
    Blocks<DecodeQ4_1, 32, 20>(kQ4_1, "Q4_1", QuantizeQ4_1, /*has_mins=*/true),
    Blocks<DecodeQ5_0, 32, 22>(kQ5_0, "Q5_0", QuantizeQ5_0),
    Blocks<DecodeQ5_1, 32, 24>(kQ5_1, "Q5_1", QuantizeQ5_1, /*has_mins=*/true),
    Blocks<DecodeQ8_0, 32, 34>(kQ8_0, "Q8_0", QuantizeQ8_0),
    Listed(kQ8_1, "Q8_1", 32, 36),
    Blocks<DecodeQ2K, 256, 84>(kQ2_K, "Q2_K", QuantizeQ2K, /*has_mins=*/true),
    Blocks<DecodeQ3K, 256, 110>(kQ3_K, "Q3_K", QuantizeQ3K),
    Blocks<DecodeQ4K, 256, 144>(kQ4_K, "Q4_K", QuantizeQ4K, /*has_mins=*/true),
    Blocks<DecodeQ5K, 256, 176>(kQ5_K, "Q5_K", QuantizeQ5K, /*has_mins=*/true),
    Blocks<DecodeQ6K, 256, 210>(kQ6_K, "Q6_K", QuantizeQ6K),
    Listed(kQ8_K, "Q8_K", 256, 292),
    Blocks<DecodeIq2Xxs, 256, 66>(kIQ2_XXS, "IQ2_XXS", nullptr),
    Blocks<DecodeIq2Xs, 256, 74>(kIQ2_XS, "IQ2_XS", nullptr),
    Blocks<DecodeIq3Xxs, 256, 98>(kIQ3_XXS, "IQ3_XXS", nullptr),
    Blocks<DecodeIq1S, 256, 50>(kIQ1_S, "IQ1_S", nullptr),
    Blocks<DecodeIq4Nl, 32, 18>(kIQ4_NL, "IQ4_NL", QuantizeIq4Nl),
    Blocks<DecodeIq3S, 256, 110>(kIQ3_S, "IQ3_S", nullptr),
    Blocks<DecodeIq2S, 256, 82>(kIQ2_S, "IQ2_S", nullptr),
    Blocks<DecodeIq4Xs, 256, 136>(kIQ4_XS, "IQ4_XS", QuantizeIq4Xs),
    Listed(kI8, "I8", 1, 1),
    Listed(kI16, "I16", 1, 2),
    Listed(kI32, "I32", 1, 4),
    Listed(kI64, "I64", 1, 8),
    Listed(kF64, "F64", 1, 8),
    Blocks<DecodeIq1M, 256, 56>(kIQ1_M, "IQ1_M", nullptr),
    Floats(kBF16, "BF16", 2, DequantizeBf16, QuantizeBf16),
    Blocks<DecodeTq1_0, 256, 54>(kTQ1_0, "TQ1_0", QuantizeTq1_0),
    Blocks<DecodeTq2_0, 256, 66>(kTQ2_0, "TQ2_0", QuantizeTq2_0),
    Blocks<DecodeMxfp4, 32, 17>(kMXFP4, "MXFP4", QuantizeMxfp4),
};

}  // namespace

std::span<const BlockFormat> AllBlockFormats() { return kFormats; }

const BlockFormat* FindBlockFormat(TensorType type) {
  const auto it = std::find_if(kFormats.begin(), kFormats.end(), [&](const BlockFormat& f) { return f.type == type; });
  return it == kFormats.end() ? nullptr : &*it;
}

const BlockFormat* FindBlockFormat(absl::string_view name) {
  const auto it = std::find_if(kFormats.begin(), kFormats.end(),
                               [&](const BlockFormat& f) { return absl::EqualsIgnoreCase(f.name, name); });
  return it == kFormats.end() ? nullptr : &*it;
}

absl::StatusOr<uint64_t> TensorBytes(TensorType type, std::span<const uint64_t> dims) {
  const BlockFormat* format = FindBlockFormat(type);
  if (format == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("tensor type ", static_cast<uint32_t>(type), " is unknown"));
  }
  if (dims.empty()) return absl::InvalidArgumentError("a tensor needs at least one dimension");
  if (dims[0] % format->block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("dimension 0 is ", dims[0], ", must be a multiple of ",
                                                   format->block_elements, " for ", format->name));
  }
  uint64_t bytes = format->block_bytes;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return absl::InvalidArgumentError(absl::StrCat("dimension ", i, " is 0"));
    const uint64_t factor = i == 0 ? dims[0] / format->block_elements : dims[i];
    if (bytes > std::numeric_limits<int64_t>::max() / factor) {
      return absl::InvalidArgumentError(
          absl::StrCat("size overflows 63 bits at dimension ", i, ", which is ", dims[i]));
    }
    bytes *= factor;
  }
  return bytes;
}

}  // namespace tandem::engine
