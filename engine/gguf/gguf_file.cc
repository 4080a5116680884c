#include "engine/gguf/gguf_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_parser.h"
#include "engine/gguf/gguf_split.h"
#include "engine/gguf/gguf_text.h"
#include "engine/gguf/input_file.h"

namespace tandem::engine {
namespace {

constexpr uint64_t kFingerprintBytesPerTensor = 4096;

// Errors of the file system name the file already.
absl::Status InFile(const std::string& path, const absl::Status& status) {
  if (absl::StartsWith(status.message(), path)) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status WrongType(absl::string_view key, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("metadata key '", key, "' must be ", wanted));
}

template <typename T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

// The value of `key` as Integer, whatever integer type the file stores it in.
template <typename Integer>
absl::StatusOr<Integer> GetInteger(const GgufFile& file, absl::string_view key) {
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* value, file.Get(key));
  return std::visit(
      [&](const auto& stored) -> absl::StatusOr<Integer> {
        using T = std::decay_t<decltype(stored)>;
        if constexpr (kIsInteger<T>) {
          if (std::in_range<Integer>(stored)) return static_cast<Integer>(stored);
          return absl::InvalidArgumentError(absl::StrCat("metadata key '", key, "' is ", FormatValue(*value),
                                                         ", must be ", std::numeric_limits<Integer>::min(), " to ",
                                                         std::numeric_limits<Integer>::max()));
        } else {
          return WrongType(key, "an integer");
        }
      },
      *value);
}

template <typename T>
absl::StatusOr<std::span<const T>> GetArray(const GgufFile& file, absl::string_view key, absl::string_view wanted) {
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* value, file.Get(key));
  const GgufArray* array = std::get_if<GgufArray>(value);
  const std::vector<T>* items = array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
  if (items == nullptr) return WrongType(key, wanted);
  return std::span<const T>(*items);
}

}  // namespace

uint64_t GgufTensor::rows() const {
  uint64_t product = 1;
  for (size_t i = 1; i < dims.size(); ++i) product *= dims[i];
  return product;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Parse(std::span<const std::byte> bytes) {
  return GgufParser::Parse(bytes, bytes.size());
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::ParseHeader(std::vector<std::byte> header, uint64_t file_bytes) {
  if (header.size() > file_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("GGUF: a header of ", header.size(), " bytes cannot belong to a file of ", file_bytes));
  }
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufParser::Parse(header, file_bytes));
  if (header.size() != file->data_offset_) {
    return absl::InvalidArgumentError(absl::StrCat("GGUF: the header came with ", header.size(),
                                                   " bytes, but the data section begins at byte ", file->data_offset_));
  }
  file->owned_ = std::move(header);  // the buffer stays where the views point
  return file;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, OpenOne(path));
  const absl::StatusOr<uint64_t> parts = file->GetUint(kSplitCountKey);
  if (parts.ok() ? *parts <= 1 : absl::IsNotFound(parts.status())) return file;
  if (!parts.ok()) return InFile(path, parts.status());
  return OpenParts(path, std::move(file));
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::OpenOne(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<InputFile> input, InputFile::Open(path));
  // Alignment may push the header's end beyond the limit of what is parsed.
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<FilePrefix> prefix,
                          FilePrefix::Create(*input, GgufParser::kMaxHeaderBytes + GgufParser::kMaxAlignment));
  absl::StatusOr<std::unique_ptr<GgufFile>> file = GgufParser::Parse(std::move(prefix), input->size());
  if (!file.ok()) return InFile(path, file.status());
  (*file)->input_ = std::move(input);
  return file;
}

GgufFile::GgufFile() = default;
GgufFile::~GgufFile() = default;

const GgufValue* GgufFile::Find(absl::string_view key) const {
  const auto it = metadata_index_.find(key);
  return it == metadata_index_.end() ? nullptr : &metadata_[it->second].second;
}

absl::StatusOr<const GgufValue*> GgufFile::Get(absl::string_view key) const {
  if (const GgufValue* value = Find(key); value != nullptr) return value;
  return absl::NotFoundError(absl::StrCat("metadata key '", key, "' is missing"));
}

absl::StatusOr<uint64_t> GgufFile::GetUint(absl::string_view key) const { return GetInteger<uint64_t>(*this, key); }

absl::StatusOr<int64_t> GgufFile::GetInt(absl::string_view key) const { return GetInteger<int64_t>(*this, key); }

absl::StatusOr<double> GgufFile::GetFloat(absl::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  if (const float* number = std::get_if<float>(value)) return *number;
  if (const double* number = std::get_if<double>(value)) return *number;
  return WrongType(key, "a float");
}

absl::StatusOr<bool> GgufFile::GetBool(absl::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  if (const bool* flag = std::get_if<bool>(value)) return *flag;
  return WrongType(key, "a bool");
}

absl::StatusOr<absl::string_view> GgufFile::GetString(absl::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  if (const absl::string_view* text = std::get_if<absl::string_view>(value)) return *text;
  return WrongType(key, "a string");
}

absl::StatusOr<std::span<const absl::string_view>> GgufFile::GetStrings(absl::string_view key) const {
  return GetArray<absl::string_view>(*this, key, "an array of strings");
}

absl::StatusOr<std::span<const float>> GgufFile::GetFloats(absl::string_view key) const {
  return GetArray<float>(*this, key, "an array of float32");
}

absl::StatusOr<std::vector<int64_t>> GgufFile::GetInts(absl::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  const GgufArray* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return WrongType(key, "an array of integers");
  return std::visit(
      [&](const auto& items) -> absl::StatusOr<std::vector<int64_t>> {
        using T = typename std::decay_t<decltype(items)>::value_type;
        if constexpr (kIsInteger<T>) {
          std::vector<int64_t> widened;
          widened.reserve(items.size());
          for (const T item : items) {
            if (!std::in_range<int64_t>(item)) {
              return absl::InvalidArgumentError(absl::StrCat("metadata key '", key, "': element ", widened.size(),
                                                             " is ", item, ", must be at most ",
                                                             std::numeric_limits<int64_t>::max()));
            }
            widened.push_back(static_cast<int64_t>(item));
          }
          return widened;
        } else {
          return WrongType(key, "an array of integers");
        }
      },
      *array);
}

const GgufTensor* GgufFile::FindTensor(absl::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

absl::Status GgufFile::Read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) const {
  if (!parts_.empty()) {
    const Place& place = places_[&tensor - tensors_.data()];
    return parts_[place.part]->Read(parts_[place.part]->tensors_[place.tensor], offset, out);
  }
  absl::Status status;
  if (out.size() > tensor.bytes || offset > tensor.bytes - out.size()) {
    status = absl::OutOfRangeError(absl::StrCat("has ", tensor.bytes, " bytes, not ", out.size(), " at byte ", offset));
  } else if (!has_data()) {
    status = absl::FailedPreconditionError("only the header of the file is at hand");
  } else if (input_ != nullptr) {
    status = input_->ReadAt(tensor.offset + offset, out);
  } else if (!out.empty()) {
    std::memcpy(out.data(), bytes_.data() + tensor.offset + offset, out.size());
  }
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("tensor ", Displayable(tensor.name, kMaxShownName), ": ", status.message()));
}

absl::StatusOr<std::vector<std::byte>> GgufFile::ReadAll(const GgufTensor& tensor) const {
  std::vector<std::byte> bytes;
  try {
    bytes.resize(tensor.bytes);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for tensor ", Displayable(tensor.name, kMaxShownName),
                                                     ": ", tensor.bytes, " bytes wanted"));
  }
  TANDEM_RETURN_IF_ERROR(Read(tensor, 0, bytes));
  return bytes;
}

absl::StatusOr<std::string> GgufFile::Fingerprint() const {
  // XXH3_createState can fail only for want of memory, as any other allocation here.
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  XXH3_128bits_update(state.get(), bytes_.data(), data_offset_);
  const uint64_t size = file_bytes();
  XXH3_128bits_update(state.get(), &size, sizeof(size));
  std::byte buffer[kFingerprintBytesPerTensor];
  for (const GgufTensor& tensor : tensors_) {
    const auto start = std::span(buffer).first(std::min(tensor.bytes, kFingerprintBytesPerTensor));
    TANDEM_RETURN_IF_ERROR(Read(tensor, 0, start));
    XXH3_128bits_update(state.get(), start.data(), start.size());
  }
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state.get()));
  std::string hex;
  for (const unsigned char byte : canonical.digest) absl::StrAppend(&hex, absl::Hex(byte, absl::kZeroPad2));
  return hex;
}

}  // namespace tandem::engine
