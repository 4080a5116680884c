// Writer of GGUF version 3 files. Collects metadata and tensors, then writes them, or their header alone for a caller
// that has more data than memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/gguf/gguf_output.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// Ownership: copies metadata; tensor bytes are borrowed until Write or Serialize returns. Thread-compatible.
// The data section is aligned to the format's default of 32 bytes; do not set general.alignment.
class GgufWriter {
 public:
  // Metadata is written in the order in which its keys were first set. Setting a key again replaces its value.
  void SetUint32(absl::string_view key, uint32_t value);
  void SetUint64(absl::string_view key, uint64_t value);
  void SetInt32(absl::string_view key, int32_t value);
  void SetFloat32(absl::string_view key, float value);
  void SetBool(absl::string_view key, bool value);
  void SetString(absl::string_view key, absl::string_view value);
  void SetStrings(absl::string_view key, std::span<const std::string> values);
  void SetFloats(absl::string_view key, std::span<const float> values);
  void SetInt32s(absl::string_view key, std::span<const int32_t> values);

  // The value as another file has it. general.alignment is left out.
  void SetValue(absl::string_view key, const GgufValue& value);

  // `dims` fastest axis first. Errors: kInvalidArgument (size of `data` is not that of type and dims; no or more than 4
  // dims; empty or duplicate name).
  absl::Status AddTensor(absl::string_view name, TensorType type, std::span<const uint64_t> dims,
                         std::span<const std::byte> data);

  // A tensor whose bytes the caller gives to the GgufOutput; without them they are zero. Errors: those of AddTensor.
  absl::Status ReserveTensor(absl::string_view name, TensorType type, std::span<const uint64_t> dims);

  // Writes to `path`, which has all of it or is left as it was. Errors: those of GgufOutput.
  absl::Status Write(const std::string& path) const;
  // Begins to write: header and metadata; the tensors are the caller's to write. Errors: those of GgufOutput.
  absl::StatusOr<std::unique_ptr<GgufOutput>> Create(const std::string& path) const;
  std::vector<std::byte> Serialize() const;

 private:
  struct Metadata {
    std::string key;
    std::vector<std::byte> value;  // value type and value, as in the file
  };
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<uint64_t> dims;
    uint64_t bytes = 0;
    std::span<const std::byte> data;  // empty if reserved
  };
  // The value of `key`, emptied but for its type.
  std::vector<std::byte>& Value(absl::string_view key, uint32_t value_type);
  std::vector<std::byte> Header() const;  // everything before the data section, padded

  std::vector<Metadata> metadata_;
  std::vector<Tensor> tensors_;
};

}  // namespace tandem::engine
