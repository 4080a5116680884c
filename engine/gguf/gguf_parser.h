// Internal to engine/gguf: turns the bytes of a file into a GgufFile. Nothing is allocated or followed before it is
// known to fit in the bytes that are there, and a header may have at most 256 MiB, so memory use is bounded by a small
// multiple of the header's size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/gguf/input_file.h"

namespace tandem::engine {

// Reads little-endian values from a range of bytes, front to back. A read that would pass the end returns false and
// leaves the position where it was.
class ByteCursor {
 public:
  // `prefix`, if not null, is what fills `bytes` as far as they are read; a read that it cannot fill returns false too.
  ByteCursor(std::span<const std::byte> bytes, FilePrefix* prefix) : bytes_(bytes), prefix_(prefix) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  bool Read(T* out) {
    if (!Available(sizeof(T))) return false;
    std::memcpy(out, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  // A view of the next `length` bytes.
  bool ReadBytes(uint64_t length, absl::string_view* out) {
    if (!Available(length)) return false;
    *out = absl::string_view(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return true;
  }

 private:
  bool Available(uint64_t count) {
    return remaining() >= count && (prefix_ == nullptr || prefix_->Fill(position_ + count));
  }

  std::span<const std::byte> bytes_;
  FilePrefix* prefix_;
  uint64_t position_ = 0;
};

// One parse of one file. Errors: those of GgufFile::Parse.
class GgufParser {
 public:
  // Headers of real models have up to some 30 MiB, most of it vocabulary. The limit keeps a wrong count in a file of
  // many gigabytes from being believed because that many bytes do follow.
  static constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
  static constexpr uint32_t kMaxAlignment = 1u << 20;

  // `bytes` are the first of a file of `file_bytes`: all of it, or at least its header.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(std::span<const std::byte> bytes, uint64_t file_bytes);
  // The same over a file's first bytes, which are read as far as needed; the result owns them. Errors: those of the
  // file too.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(std::unique_ptr<FilePrefix> prefix, uint64_t file_bytes);

 private:
  GgufParser(std::span<const std::byte> bytes, uint64_t file_bytes, FilePrefix* prefix);
  absl::StatusOr<std::unique_ptr<GgufFile>> Run();

  // The steps, in file order.
  absl::Status ReadPreamble();
  absl::Status ReadMetadata();
  absl::Status ReadTensorInfos();
  absl::Status PlaceTensors();

  absl::Status ReadMetadataEntry();
  absl::StatusOr<GgufValue> ReadValue(uint32_t type, uint64_t type_at);
  absl::StatusOr<GgufValue> ReadArray();
  absl::Status ReadTensorInfo();
  absl::Status TakeAlignment(const GgufValue& value, uint64_t value_at);

  template <typename T>
  absl::StatusOr<GgufValue> ReadScalar();
  template <typename T>
  absl::StatusOr<GgufArray> ReadNumbers(uint64_t count, uint64_t count_at);
  absl::StatusOr<GgufArray> ReadBools(uint64_t count, uint64_t count_at);
  absl::StatusOr<GgufArray> ReadStrings(uint64_t count, uint64_t count_at);
  absl::StatusOr<bool> ReadBool();
  // `what` names the string in errors ("key", "value"...).
  absl::StatusOr<absl::string_view> ReadString(absl::string_view what);
  template <typename T>
  absl::Status ReadField(absl::string_view what, T* out);

  // An error about the field in hand: "GGUF: <field>: <problem> (at byte <offset>)".
  absl::Status Invalid(uint64_t offset, absl::string_view problem) const;
  std::string BytesLeft() const;  // "N bytes left in the file"
  absl::Status CountTooLarge(uint64_t offset, absl::string_view what, uint64_t count) const;

  ByteCursor cursor_;
  std::unique_ptr<GgufFile> file_;
  uint64_t tensor_count_ = 0;
  uint64_t metadata_count_ = 0;
  // What is being read, for messages: a kind ("header", "metadata key", "tensor") and its name, or its number while the
  // name is not known yet.
  absl::string_view field_kind_ = "header";
  absl::string_view field_name_;
  uint64_t field_number_ = 0;
  // Of each tensor, in order: where its offset field is in the file, for messages.
  std::vector<uint64_t> offset_fields_;
};

}  // namespace tandem::engine
