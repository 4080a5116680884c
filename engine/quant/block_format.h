// The block formats of GGUF tensors: layout, size and scalar conversion of each. Source of the layouts: the GGUF
// specification and the public definitions of the formats in ggml; the numbers of TensorType are the file format's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// Type code of a tensor as stored in a GGUF file. Codes absent here are retired or unknown and are refused by the
// reader.
enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

// One format. Conversions are the scalar definition of the format; they are null for a format that Tandem can list but
// not compute with. `count` is in elements and a multiple of `block_elements`; `src`/`dst` hold count / block_elements
// blocks, at any address. The block quantisers take NaN for 0 and infinities for the largest float, and saturate a
// scale that a half cannot hold; the float formats keep both.
struct BlockFormat {
  TensorType type;
  absl::string_view name;  // upper case, as in file names: "Q4_K"
  uint32_t block_elements;
  uint32_t block_bytes;
  void (*dequantize)(const std::byte* src, float* dst, size_t count);
  void (*quantize)(const float* src, std::byte* dst, size_t count);

  bool computable() const { return dequantize != nullptr; }
  double bits_per_weight() const { return 8.0 * block_bytes / block_elements; }
};

// The format of `type`, or null if the code is unknown. The result lives forever. Thread-safe.
const BlockFormat* FindBlockFormat(TensorType type);
// The same by name, any case ("q8_0"); null if unknown.
const BlockFormat* FindBlockFormat(absl::string_view name);
// All formats, in order of their codes.
std::span<const BlockFormat> AllBlockFormats();

// Bytes of a tensor of `dims` (GGUF order: fastest axis first).
// Errors: kInvalidArgument (unknown type; fastest axis no multiple of the block; zero dimension; size overflows 63
// bits).
absl::StatusOr<uint64_t> TensorBytes(TensorType type, std::span<const uint64_t> dims);

// IEEE half to float, exact; float to half, round to nearest even. A NaN keeps its sign and upper payload and becomes
// quiet, as the hardware's conversions do. Software, the same bits on every machine.
float HalfToFloat(uint16_t half);
uint16_t FloatToHalf(float value);

}  // namespace tandem::engine
