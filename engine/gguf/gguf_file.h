// Reader of GGUF model files, versions 2 and 3, little-endian. Format:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
//   "GGUF" | u32 version | u64 tensor count | u64 metadata count
//   metadata: { string key, u32 value type, value } ...        string = u64 length, bytes
//   tensor infos: { string name, u32 n_dims, u64 dims[n_dims] fastest first, u32 type, u64 offset in the data section }
//   ... padding to general.alignment (32 unless given) | data section
//
// Every byte is hostile until checked: counts, lengths, offsets, alignment and types are validated against the file's
// size before anything is allocated or followed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// Metadata array: elements of one scalar type, or strings. Nested arrays are refused (no known file has them).
// Views point into the header and live as long as the GgufFile.
using GgufArray =
    std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                 std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<bool>,
                 std::vector<absl::string_view>, std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, absl::string_view,
                               uint64_t, int64_t, double, GgufArray>;

struct GgufTensor {
  std::string name;
  TensorType type;
  std::vector<uint64_t> dims;  // fastest axis first; a matrix [rows, cols] has dims {cols, rows}
  uint64_t offset;             // of the first byte, from the start of the file (of the whole, if it is in parts)
  uint64_t bytes;

  uint64_t cols() const { return dims.empty() ? 0 : dims[0]; }
  uint64_t rows() const;  // product of all dims but the first; 1 for a vector
};

class FilePrefix;
class InputFile;

// A parsed file. Ownership: owns its header and keeps the file open (Open), or borrows the caller's bytes (Parse).
// Immutable, hence thread-safe.
class GgufFile {
 public:
  // Opens `path`, a regular file, and reads its header. If it is one part of several (gguf_split.h), opens all of them
  // and gives the whole, the same whichever part was named. Errors: kNotFound, kPermissionDenied, kUnavailable (another
  // system error), kInvalidArgument (not a GGUF file, truncated or inconsistent, or a header above 256 MiB: the message
  // names the field and its file offset; parts that do not belong together), kUnimplemented (version or big-endian).
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // One file over bytes in memory, which must outlive the result.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(std::span<const std::byte> bytes);
  // A file of `file_bytes` of which only header() is at hand, as a worker gets it from the coordinator. Checked like a
  // whole file, tensor offsets against `file_bytes`. has_data() is false: there is nothing to read.
  // Errors: those of Parse; kInvalidArgument (`header` ends before or after the data section's begin).
  static absl::StatusOr<std::unique_ptr<GgufFile>> ParseHeader(std::vector<std::byte> header, uint64_t file_bytes);
  // The whole of a model's parts, in order: metadata of the first, tensors of all, laid out as one file. Errors:
  // kInvalidArgument (they do not belong together; names the part and what is wrong).
  static absl::StatusOr<std::unique_ptr<GgufFile>> Join(std::vector<std::unique_ptr<GgufFile>> parts);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  uint32_t version() const { return version_; }
  uint32_t alignment() const { return alignment_; }
  uint64_t file_bytes() const { return file_bytes_; }
  bool has_data() const { return input_ != nullptr || !parts_.empty() || bytes_.size() == file_bytes_; }
  // Bytes before the data section: everything that describes the model.
  std::span<const std::byte> header() const { return bytes_.first(data_offset_); }

  // Metadata in file order.
  std::span<const std::pair<absl::string_view, GgufValue>> metadata() const { return metadata_; }
  const GgufValue* Find(absl::string_view key) const;  // null if absent
  bool Has(absl::string_view key) const { return Find(key) != nullptr; }
  // The same as a status. Errors: kNotFound; the message names the key.
  absl::StatusOr<const GgufValue*> Get(absl::string_view key) const;
  // Typed access. Integers convert between widths if the value fits. Errors: kNotFound (no such key), kInvalidArgument
  // (another type or out of range); both name the key.
  absl::StatusOr<uint64_t> GetUint(absl::string_view key) const;
  absl::StatusOr<int64_t> GetInt(absl::string_view key) const;
  absl::StatusOr<double> GetFloat(absl::string_view key) const;  // float or double
  absl::StatusOr<bool> GetBool(absl::string_view key) const;
  absl::StatusOr<absl::string_view> GetString(absl::string_view key) const;
  absl::StatusOr<std::span<const absl::string_view>> GetStrings(absl::string_view key) const;
  absl::StatusOr<std::span<const float>> GetFloats(absl::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> GetInts(absl::string_view key) const;  // any integer array, widened

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* FindTensor(absl::string_view name) const;  // null if absent
  // Fills `out` with bytes of `tensor` from `offset` on; `tensor` must belong to this file and hold them. Errors:
  // kDataLoss (the file has shrunk since it was opened), kUnavailable (the disk), kFailedPrecondition (no has_data());
  // each names the tensor.
  absl::Status Read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) const;
  // All of the tensor. Errors: those of Read; kResourceExhausted (no memory for it).
  absl::StatusOr<std::vector<std::byte>> ReadAll(const GgufTensor& tensor) const;

  // Identity of the model, as 32 hex digits: XXH3-128 over the header, the file size and the first 4 KiB of every
  // tensor. Reads little, so it is quick on a 40 GB file; it tells two files apart, it does not prove integrity
  // (checksums on the wire do that). Errors: those of Read.
  absl::StatusOr<std::string> Fingerprint() const;

 private:
  friend class GgufParser;
  GgufFile();
  static absl::StatusOr<std::unique_ptr<GgufFile>> OpenOne(const std::string& path);
  // The whole that `opened`, the file at `path`, is a part of.
  static absl::StatusOr<std::unique_ptr<GgufFile>> OpenParts(const std::string& path, std::unique_ptr<GgufFile> opened);

  std::span<const std::byte> bytes_;  // the whole file, or at least its header
  uint64_t file_bytes_ = 0;
  std::vector<std::byte> owned_;        // what bytes_ views after ParseHeader
  std::unique_ptr<FilePrefix> prefix_;  // what bytes_ views after Open
  std::unique_ptr<InputFile> input_;    // after Open: where tensors are read from
  // After Join: where tensors are read from, and for each tensor the part that holds it and its index there.
  struct Place {
    size_t part = 0, tensor = 0;
  };
  std::vector<std::unique_ptr<GgufFile>> parts_;
  std::vector<Place> places_;
  uint32_t version_ = 0;
  uint32_t alignment_ = 32;
  uint64_t infos_offset_ = 0;  // of the tensor infos
  uint64_t data_offset_ = 0;   // of the data section
  std::vector<std::pair<absl::string_view, GgufValue>> metadata_;
  absl::flat_hash_map<absl::string_view, size_t> metadata_index_;
  std::vector<GgufTensor> tensors_;
  absl::flat_hash_map<absl::string_view, size_t> tensor_index_;
};

// The value for messages and `tandem inspect`: scalars and strings in full, arrays up to `max_items` elements (their
// strings shortened) and the count. Valid UTF-8 without control characters whatever the file holds: other bytes are
// written \xNN.
std::string FormatValue(const GgufValue& value, size_t max_items = 6);

}  // namespace tandem::engine
