#include "engine/quant/block_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/quant/conversions.h"

namespace tandem::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie in the file: little-endian");

// {type, name, elements a block, bytes a block, dequantize, quantize}
constexpr std::array kFormats = {
    BlockFormat{TensorType::kF32, "F32", 1, 4, DequantizeF32, QuantizeF32},
    BlockFormat{TensorType::kF16, "F16", 1, 2, DequantizeF16, QuantizeF16},
    BlockFormat{TensorType::kQ4_0, "Q4_0", 32, 18, nullptr, nullptr},
    BlockFormat{TensorType::kQ4_1, "Q4_1", 32, 20, nullptr, nullptr},
    BlockFormat{TensorType::kQ5_0, "Q5_0", 32, 22, nullptr, nullptr},
    BlockFormat{TensorType::kQ5_1, "Q5_1", 32, 24, nullptr, nullptr},
    BlockFormat{TensorType::kQ8_0, "Q8_0", 32, 34, DequantizeQ8_0, QuantizeQ8_0},
    BlockFormat{TensorType::kQ8_1, "Q8_1", 32, 36, nullptr, nullptr},
    BlockFormat{TensorType::kQ2_K, "Q2_K", 256, 84, nullptr, nullptr},
    BlockFormat{TensorType::kQ3_K, "Q3_K", 256, 110, nullptr, nullptr},
    BlockFormat{TensorType::kQ4_K, "Q4_K", 256, 144, DequantizeQ4K, QuantizeQ4K},
    BlockFormat{TensorType::kQ5_K, "Q5_K", 256, 176, nullptr, nullptr},
    BlockFormat{TensorType::kQ6_K, "Q6_K", 256, 210, DequantizeQ6K, QuantizeQ6K},
    BlockFormat{TensorType::kQ8_K, "Q8_K", 256, 292, nullptr, nullptr},
    BlockFormat{TensorType::kIQ2_XXS, "IQ2_XXS", 256, 66, nullptr, nullptr},
    BlockFormat{TensorType::kIQ2_XS, "IQ2_XS", 256, 74, nullptr, nullptr},
    BlockFormat{TensorType::kIQ3_XXS, "IQ3_XXS", 256, 98, nullptr, nullptr},
    BlockFormat{TensorType::kIQ1_S, "IQ1_S", 256, 50, nullptr, nullptr},
    BlockFormat{TensorType::kIQ4_NL, "IQ4_NL", 32, 18, nullptr, nullptr},
    BlockFormat{TensorType::kIQ3_S, "IQ3_S", 256, 110, nullptr, nullptr},
    BlockFormat{TensorType::kIQ2_S, "IQ2_S", 256, 82, nullptr, nullptr},
    BlockFormat{TensorType::kIQ4_XS, "IQ4_XS", 256, 136, nullptr, nullptr},
    BlockFormat{TensorType::kI8, "I8", 1, 1, nullptr, nullptr},
    BlockFormat{TensorType::kI16, "I16", 1, 2, nullptr, nullptr},
    BlockFormat{TensorType::kI32, "I32", 1, 4, nullptr, nullptr},
    BlockFormat{TensorType::kI64, "I64", 1, 8, nullptr, nullptr},
    BlockFormat{TensorType::kF64, "F64", 1, 8, nullptr, nullptr},
    BlockFormat{TensorType::kIQ1_M, "IQ1_M", 256, 56, nullptr, nullptr},
    BlockFormat{TensorType::kBF16, "BF16", 1, 2, DequantizeBf16, QuantizeBf16},
    BlockFormat{TensorType::kTQ1_0, "TQ1_0", 256, 54, nullptr, nullptr},
    BlockFormat{TensorType::kTQ2_0, "TQ2_0", 256, 66, nullptr, nullptr},
    BlockFormat{TensorType::kMXFP4, "MXFP4", 32, 17, nullptr, nullptr},
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
