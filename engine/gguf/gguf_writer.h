// Writer of GGUF version 3 files. Collects metadata and tensors, then writes header and data in one pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
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

  // `dims` fastest axis first. Errors: kInvalidArgument (size of `data` is not that of type and dims; no or more than 4
  // dims; empty or duplicate name).
  absl::Status AddTensor(absl::string_view name, TensorType type, std::span<const uint64_t> dims,
                         std::span<const std::byte> data);

  // Writes to `path` through a temporary file in the same folder that is renamed at the end, so a reader never sees
  // half a file. Errors: kUnavailable with the operating system's message.
  absl::Status Write(const std::string& path) const;
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
    std::span<const std::byte> data;
  };
  // The value of `key`, emptied but for its type.
  std::vector<std::byte>& Value(absl::string_view key, uint32_t value_type);
  std::vector<std::byte> Header() const;  // everything before the data section, padded

  std::vector<Metadata> metadata_;
  std::vector<Tensor> tensors_;
};

}  // namespace tandem::engine
