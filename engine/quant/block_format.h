// The block formats of GGUF tensors: layout, size and scalar conversion of each. Source of the layouts: the GGUF
// specification and the public definitions of the formats in ggml; the numbers of TensorType are the file format's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/quant/integer_block.h"
#include "engine/quant/tensor_type.h"

namespace tandem::engine {

// One format. Conversions are the scalar definition of the format. `count` is in elements and a multiple of
// `block_elements`; `src`/`dst` hold count / block_elements blocks, at any address.
struct BlockFormat {
  // Reads one block as integers (integer_block.h).
  using Decode = void (*)(const std::byte* block, IntegerBlock* out);
  // Any bytes are some numbers; scales that are infinite or NaN give infinities and NaN.
  using Dequantize = void (*)(const std::byte* src, float* dst, size_t count);
  // Minimises the sum of squared errors, weighted by `importance` where it is not null: [count], how much an error of
  // each element matters (an importance matrix has the mean square of each column's activations). The block formats
  // take NaN for 0 and infinities for the largest float, and saturate a scale that a half cannot hold; the float
  // formats keep both. A weight that is negative or not finite counts as 0; where all weights of a block are 0, they
  // count as equal.
  using Quantize = void (*)(const float* src, const float* importance, std::byte* dst, size_t count);

  TensorType type;
  absl::string_view name;  // upper case, as in file names: "Q4_K"
  uint32_t block_elements;
  uint32_t block_bytes;
  bool has_mins;          // dmin and mins of the integers count; where not, they are 0
  Decode decode;          // null for the float formats, and for one that Tandem can list but not compute with
  Dequantize dequantize;  // null for one that Tandem can list but not compute with
  Quantize quantize;      // null for those, and for the codebook formats IQ1, IQ2 and IQ3

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
