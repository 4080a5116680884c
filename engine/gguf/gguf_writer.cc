#include "engine/gguf/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>
#include <variant>

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

// Value type of the format for each type of metadata.
template <typename T>
constexpr uint32_t ValueTypeOf() {
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, int8_t>) return 1;
  if constexpr (std::is_same_v<T, uint16_t>) return 2;
  if constexpr (std::is_same_v<T, int16_t>) return 3;
  if constexpr (std::is_same_v<T, uint32_t>) return kUint32;
  if constexpr (std::is_same_v<T, int32_t>) return kInt32;
  if constexpr (std::is_same_v<T, float>) return kFloat32;
  if constexpr (std::is_same_v<T, bool>) return kBool;
  if constexpr (std::is_same_v<T, absl::string_view>) return kString;
  if constexpr (std::is_same_v<T, GgufArray>) return kArray;
  if constexpr (std::is_same_v<T, uint64_t>) return kUint64;
  if constexpr (std::is_same_v<T, int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}

template <typename T>
void AppendValue(const T& value, Bytes* out) {
  if constexpr (std::is_same_v<T, bool>) {
    AppendNumber<uint8_t>(value ? 1 : 0, out);
  } else if constexpr (std::is_same_v<T, absl::string_view>) {
    AppendString(value, out);
  } else {
    AppendNumber(value, out);
  }
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

void GgufWriter::SetValue(absl::string_view key, const GgufValue& value) {
  if (key == "general.alignment") return;
  std::visit(
      [&](const auto& held) {
        using T = std::decay_t<decltype(held)>;
        Bytes& out = Value(key, ValueTypeOf<T>());
        if constexpr (!std::is_same_v<T, GgufArray>) {
          AppendValue(held, &out);
        } else {
          std::visit(
              [&](const auto& items) {
                using Item = typename std::decay_t<decltype(items)>::value_type;
                AppendNumber(ValueTypeOf<Item>(), &out);
                AppendNumber<uint64_t>(items.size(), &out);
                for (size_t i = 0; i < items.size(); ++i) AppendValue<Item>(items[i], &out);
              },
              held);
        }
      },
      value);
}

absl::Status GgufWriter::ReserveTensor(absl::string_view name, TensorType type, std::span<const uint64_t> dims) {
  const auto invalid = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", name, "': ", problem));
  };
  if (name.empty()) return invalid("the name is empty");
  if (dims.size() > kMaxDims) return invalid(absl::StrCat(dims.size(), " dimensions, at most ", kMaxDims));
  const absl::StatusOr<uint64_t> bytes = TensorBytes(type, dims);
  if (!bytes.ok()) return invalid(bytes.status().message());
  if (std::any_of(tensors_.begin(), tensors_.end(), [&](const Tensor& t) { return t.name == name; })) {
    return invalid("the name is already used");
  }
  tensors_.push_back({std::string(name), type, {dims.begin(), dims.end()}, *bytes, {}});
  return absl::OkStatus();
}

absl::Status GgufWriter::AddTensor(absl::string_view name, TensorType type, std::span<const uint64_t> dims,
                                   std::span<const std::byte> data) {
  TANDEM_RETURN_IF_ERROR(ReserveTensor(name, type, dims));
  const uint64_t bytes = tensors_.back().bytes;
  if (bytes != data.size()) {
    tensors_.pop_back();
    return absl::InvalidArgumentError(
        absl::StrCat("tensor '", name, "': has ", data.size(), " bytes, its type and dimensions need ", bytes));
  }
  tensors_.back().data = data;
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
    offset += Aligned(tensor.bytes);
  }
  out.resize(Aligned(out.size()));
  return out;
}

std::vector<std::byte> GgufWriter::Serialize() const {
  Bytes out = Header();
  for (const Tensor& tensor : tensors_) {
    const size_t end = out.size() + Aligned(tensor.bytes);
    AppendBytes(tensor.data.data(), tensor.data.size(), &out);
    out.resize(end);
  }
  return out;
}

absl::StatusOr<std::unique_ptr<GgufOutput>> GgufWriter::Create(const std::string& path) const {
  const Bytes header = Header();
  std::vector<GgufOutput::Extent> extents;
  uint64_t offset = header.size();
  for (const Tensor& tensor : tensors_) {
    extents.push_back({.offset = offset, .bytes = tensor.bytes});
    offset += Aligned(tensor.bytes);
  }
  return GgufOutput::Create(path, header, std::move(extents), offset);
}

absl::Status GgufWriter::Write(const std::string& path) const {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<GgufOutput> output, Create(path));
  for (size_t i = 0; i < tensors_.size(); ++i) TANDEM_RETURN_IF_ERROR(output->Write(i, 0, tensors_[i].data));
  return output->Finish();
}

}  // namespace tandem::engine
