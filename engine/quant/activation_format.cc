#include "engine/quant/activation_format.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

constexpr TensorType kTypes[] = {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ8_0};

// Clamped to +-largest in pieces that stay in the first-level cache.
void PackClamped(const BlockFormat& format, float largest, std::span<const float> values, std::byte* out) {
  std::array<float, 512> piece;
  while (!values.empty()) {
    const size_t count = std::min(values.size(), piece.size());
    std::transform(values.begin(), values.begin() + count, piece.begin(),
                   [largest](float value) { return std::clamp(value, -largest, largest); });
    format.quantize(piece.data(), nullptr, out, count);
    values = values.subspan(count);
    out += count * format.block_bytes;
  }
}

}  // namespace

std::span<const TensorType> ActivationTypes() { return kTypes; }

std::string ActivationTypeName(TensorType type) { return absl::AsciiStrToLower(FindBlockFormat(type)->name); }

std::vector<std::string> ActivationTypeNames() {
  std::vector<std::string> names;
  for (TensorType type : kTypes) names.push_back(ActivationTypeName(type));
  return names;
}

absl::StatusOr<TensorType> ParseActivationType(absl::string_view name) {
  for (TensorType type : kTypes) {
    if (ActivationTypeName(type) == name) return type;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("activation type \"", name, "\", expected one of ", absl::StrJoin(ActivationTypeNames(), ", ")));
}

absl::Status CheckActivationType(TensorType type, int64_t hidden) {
  if (std::find(std::begin(kTypes), std::end(kTypes), type) == std::end(kTypes)) {
    return absl::InvalidArgumentError(absl::StrCat("activations cannot travel as tensor type ",
                                                   static_cast<uint32_t>(type), ", expected one of ",
                                                   absl::StrJoin(ActivationTypeNames(), ", ")));
  }
  const BlockFormat& format = *FindBlockFormat(type);
  if (hidden % format.block_elements == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("activations of ", hidden, " values a token cannot travel as ",
                                                 ActivationTypeName(type), ", which has blocks of ",
                                                 format.block_elements, "; use f16 or bf16"));
}

uint64_t ActivationBytes(TensorType type, uint64_t count) {
  const BlockFormat& format = *FindBlockFormat(type);
  return count / format.block_elements * format.block_bytes;
}

void PackActivations(TensorType type, std::span<const float> values, std::byte* out) {
  const BlockFormat& format = *FindBlockFormat(type);
  constexpr float kLargestHalf = 65504.0f, kLargestBf16 = 0x1.fep127f;
  if (type == TensorType::kF16) return PackClamped(format, kLargestHalf, values, out);
  if (type == TensorType::kBF16) return PackClamped(format, kLargestBf16, values, out);
  format.quantize(values.data(), nullptr, out, values.size());
}

void UnpackActivations(TensorType type, const std::byte* bytes, std::span<float> out) {
  FindBlockFormat(type)->dequantize(bytes, out.data(), out.size());
}

}  // namespace tandem::engine
