#include "engine/gguf/gguf_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_parser.h"

namespace tandem::engine {
namespace {

constexpr uint64_t kFingerprintBytesPerTensor = 4096;

absl::Status SystemError(const std::string& path, absl::string_view action, int error) {
  const std::string message = absl::StrCat(path, ": cannot ", action, ": ", std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

// An open file descriptor, closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

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
  // Without O_NONBLOCK, opening a named pipe would wait for its writer.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return SystemError(path, "open", errno);
  struct stat info;
  if (fstat(file.get(), &info) != 0) return SystemError(path, "stat", errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is ", S_ISDIR(info.st_mode) ? "a directory" : "not a regular file", ", not a GGUF file"));
  }
  if (info.st_size == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": the file is empty"));
  const size_t size = static_cast<size_t>(info.st_size);
  void* mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapping == MAP_FAILED) return SystemError(path, "map", errno);
  absl::StatusOr<std::unique_ptr<GgufFile>> parsed = Parse({static_cast<const std::byte*>(mapping), size});
  if (!parsed.ok()) {
    munmap(mapping, size);
    return absl::Status(parsed.status().code(), absl::StrCat(path, ": ", parsed.status().message()));
  }
  (*parsed)->mapping_ = mapping;
  return parsed;
}

GgufFile::~GgufFile() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_.size());
}

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

std::string GgufFile::Fingerprint() const {
  if (!has_data()) return "";
  // XXH3_createState can fail only for want of memory, as any other allocation here.
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  XXH3_128bits_update(state.get(), bytes_.data(), data_offset_);
  const uint64_t size = file_bytes();
  XXH3_128bits_update(state.get(), &size, sizeof(size));
  for (const GgufTensor& tensor : tensors_) {
    const auto start = Data(tensor).first(std::min(tensor.bytes, kFingerprintBytesPerTensor));
    XXH3_128bits_update(state.get(), start.data(), start.size());
  }
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state.get()));
  std::string hex;
  for (const unsigned char byte : canonical.digest) absl::StrAppend(&hex, absl::Hex(byte, absl::kZeroPad2));
  return hex;
}

}  // namespace tandem::engine
