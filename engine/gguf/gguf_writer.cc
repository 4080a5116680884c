#include "engine/gguf/gguf_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kAlignment = 32;
constexpr size_t kMaxDims = 4;

// Value types of the format.
constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9, kUint64 = 10;

using Bytes = std::vector<std::byte>;

void AppendBytes(const void* data, size_t size, Bytes* out) {
  if (size == 0) return;  // memcpy must not see the null pointer of an empty span
  const size_t old_size = out->size();
  out->resize(old_size + size);
  std::memcpy(out->data() + old_size, data, size);
}

template <typename T>
void AppendNumber(T value, Bytes* out) {
  static_assert(std::is_arithmetic_v<T>);
  AppendBytes(&value, sizeof(value), out);
}

void AppendString(absl::string_view text, Bytes* out) {
  AppendNumber<uint64_t>(text.size(), out);
  AppendBytes(text.data(), text.size(), out);
}

uint64_t Aligned(uint64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

absl::Status WriteAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::UnavailableError(absl::StrCat("cannot write: ", std::strerror(errno)));
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status WritePadded(int fd, std::span<const std::byte> bytes) {
  static constexpr std::byte kZeros[kAlignment] = {};
  TANDEM_RETURN_IF_ERROR(WriteAll(fd, bytes));
  return WriteAll(fd, std::span(kZeros).first(Aligned(bytes.size()) - bytes.size()));
}

}  // namespace

std::vector<std::byte>& GgufWriter::Value(absl::string_view key, uint32_t value_type) {
  auto it = std::find_if(metadata_.begin(), metadata_.end(), [&](const Metadata& m) { return m.key == key; });
  if (it == metadata_.end()) it = metadata_.insert(it, Metadata{.key = std::string(key)});
  it->value.clear();
  AppendNumber(value_type, &it->value);
  return it->value;
}

void GgufWriter::SetUint32(absl::string_view key, uint32_t value) { AppendNumber(value, &Value(key, kUint32)); }

void GgufWriter::SetUint64(absl::string_view key, uint64_t value) { AppendNumber(value, &Value(key, kUint64)); }

void GgufWriter::SetInt32(absl::string_view key, int32_t value) { AppendNumber(value, &Value(key, kInt32)); }

void GgufWriter::SetFloat32(absl::string_view key, float value) { AppendNumber(value, &Value(key, kFloat32)); }

void GgufWriter::SetBool(absl::string_view key, bool value) {
  AppendNumber<uint8_t>(value ? 1 : 0, &Value(key, kBool));
}

void GgufWriter::SetString(absl::string_view key, absl::string_view value) {
  AppendString(value, &Value(key, kString));
}

void GgufWriter::SetStrings(absl::string_view key, std::span<const std::string> values) {
  Bytes& out = Value(key, kArray);
  AppendNumber(kString, &out);
  AppendNumber<uint64_t>(values.size(), &out);
  for (const std::string& value : values) AppendString(value, &out);
}

void GgufWriter::SetFloats(absl::string_view key, std::span<const float> values) {
  Bytes& out = Value(key, kArray);
  AppendNumber(kFloat32, &out);
  AppendNumber<uint64_t>(values.size(), &out);
  AppendBytes(values.data(), values.size_bytes(), &out);
}

void GgufWriter::SetInt32s(absl::string_view key, std::span<const int32_t> values) {
  Bytes& out = Value(key, kArray);
  AppendNumber(kInt32, &out);
  AppendNumber<uint64_t>(values.size(), &out);
  AppendBytes(values.data(), values.size_bytes(), &out);
}

absl::Status GgufWriter::AddTensor(absl::string_view name, TensorType type, std::span<const uint64_t> dims,
                                   std::span<const std::byte> data) {
  const auto invalid = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", name, "': ", problem));
  };
  if (name.empty()) return invalid("the name is empty");
  if (dims.size() > kMaxDims) return invalid(absl::StrCat(dims.size(), " dimensions, at most ", kMaxDims));
  const absl::StatusOr<uint64_t> bytes = TensorBytes(type, dims);
  if (!bytes.ok()) return invalid(bytes.status().message());
  if (*bytes != data.size()) {
    return invalid(absl::StrCat("has ", data.size(), " bytes, its type and dimensions need ", *bytes));
  }
  if (std::any_of(tensors_.begin(), tensors_.end(), [&](const Tensor& t) { return t.name == name; })) {
    return invalid("the name is already used");
  }
  tensors_.push_back({std::string(name), type, {dims.begin(), dims.end()}, data});
  return absl::OkStatus();
}

std::vector<std::byte> GgufWriter::Header() const {
  Bytes out;
  AppendBytes("GGUF", 4, &out);
  AppendNumber(kVersion, &out);
  AppendNumber<uint64_t>(tensors_.size(), &out);
  AppendNumber<uint64_t>(metadata_.size(), &out);
  for (const Metadata& entry : metadata_) {
    AppendString(entry.key, &out);
    AppendBytes(entry.value.data(), entry.value.size(), &out);
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    AppendString(tensor.name, &out);
    AppendNumber(static_cast<uint32_t>(tensor.dims.size()), &out);
    AppendBytes(tensor.dims.data(), tensor.dims.size() * sizeof(uint64_t), &out);
    AppendNumber(static_cast<uint32_t>(tensor.type), &out);
    AppendNumber(offset, &out);
    offset += Aligned(tensor.data.size());
  }
  out.resize(Aligned(out.size()));
  return out;
}

std::vector<std::byte> GgufWriter::Serialize() const {
  Bytes out = Header();
  for (const Tensor& tensor : tensors_) {
    AppendBytes(tensor.data.data(), tensor.data.size(), &out);
    out.resize(Aligned(out.size()));
  }
  return out;
}

absl::Status GgufWriter::Write(const std::string& path) const {
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return absl::UnavailableError(absl::StrCat(temporary, ": cannot create: ", std::strerror(errno)));
  absl::Status status = WriteAll(fd, Header());
  for (size_t i = 0; i < tensors_.size() && status.ok(); ++i) status = WritePadded(fd, tensors_[i].data);
  // On the disk before the rename: after a crash the name must not point to an empty file.
  if (status.ok() && fsync(fd) != 0) {
    status = absl::UnavailableError(absl::StrCat("cannot sync: ", std::strerror(errno)));
  }
  if (close(fd) != 0 && status.ok()) {
    status = absl::UnavailableError(absl::StrCat("cannot close: ", std::strerror(errno)));
  }
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = absl::UnavailableError(absl::StrCat("cannot rename to its final name: ", std::strerror(errno)));
  }
  if (status.ok()) return status;
  unlink(temporary.c_str());
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace tandem::engine
