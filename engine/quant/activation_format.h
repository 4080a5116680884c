// The number formats in which hidden states travel from stage to stage. The conversions are those of the block formats,
// so the bytes are the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/quant/tensor_type.h"

namespace tandem::engine {

// F32 (exact), F16, BF16, Q8_0: widest first.
std::span<const TensorType> ActivationTypes();
// As in flags: "q8_0".
std::string ActivationTypeName(TensorType type);
std::vector<std::string> ActivationTypeNames();
// Errors: kInvalidArgument (names those that there are).
absl::StatusOr<TensorType> ParseActivationType(absl::string_view name);

// Whether rows of `hidden` values can travel as `type`. Errors: kInvalidArgument (no activation type; a row that is not
// of whole blocks).
absl::Status CheckActivationType(TensorType type, int64_t hidden);
// Bytes of `count` values, whole blocks.
uint64_t ActivationBytes(TensorType type, uint64_t count);

// Writes ActivationBytes(type, values.size()) bytes. Values that F16 or BF16 would round to infinity become the largest
// finite number with their sign, a NaN stays one; Q8_0 takes a NaN for 0 and an infinity for the largest number it has.
// (A stage refuses to send or to take what is not finite.)
void PackActivations(TensorType type, std::span<const float> values, std::byte* out);
// The reverse. Any bytes give some numbers, infinities and NaN among them.
void UnpackActivations(TensorType type, const std::byte* bytes, std::span<float> out);

}  // namespace tandem::engine
