#include "engine/gguf/gguf_parser.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_text.h"

namespace tandem::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "fields are copied as they lie in the file: little-endian");

constexpr absl::string_view kMagic = "GGUF";
constexpr uint32_t kOldestVersion = 2;
constexpr uint32_t kNewestVersion = 3;
constexpr absl::string_view kAlignmentKey = "general.alignment";
constexpr uint32_t kMinAlignment = 8;
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxKeyBytes = 65535;  // the format's own limit
// Entries for which room is made before they are read; beyond that, vectors grow with what is really there.
constexpr uint64_t kMaxReserve = 65536;

// Least bytes of an entry: what bounds a count before anything is reserved for it.
constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;        // key length, key, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name length, name, n_dims, one dimension, type, offset
constexpr uint64_t kMinStringBytes = 8;

// Value types of the format.
enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

}  // namespace

GgufParser::GgufParser(std::span<const std::byte> bytes, uint64_t file_bytes, FilePrefix* prefix)
    : cursor_(bytes.first(std::min<uint64_t>(bytes.size(), kMaxHeaderBytes)), prefix), file_(new GgufFile()) {
  file_->bytes_ = bytes;
  file_->file_bytes_ = file_bytes;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufParser::Run() {
  TANDEM_RETURN_IF_ERROR(ReadPreamble());
  TANDEM_RETURN_IF_ERROR(ReadMetadata());
  file_->infos_offset_ = cursor_.position();
  TANDEM_RETURN_IF_ERROR(ReadTensorInfos());
  TANDEM_RETURN_IF_ERROR(PlaceTensors());
  return std::move(file_);
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufParser::Parse(std::span<const std::byte> bytes, uint64_t file_bytes) {
  return GgufParser(bytes, file_bytes, nullptr).Run();
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufParser::Parse(std::unique_ptr<FilePrefix> prefix, uint64_t file_bytes) {
  absl::StatusOr<std::unique_ptr<GgufFile>> file = GgufParser(prefix->bytes(), file_bytes, prefix.get()).Run();
  // The padding before the data section is part of the header, though nothing reads it.
  if (file.ok()) prefix->Fill((*file)->data_offset_);
  // A read that failed looks to the parser like the end of the bytes; this is the true reason.
  if (!prefix->status().ok()) return prefix->status();
  if (file.ok()) (*file)->prefix_ = std::move(prefix);
  return file;
}

absl::Status GgufParser::Invalid(uint64_t offset, absl::string_view problem) const {
  std::string field(field_kind_);
  if (!field_name_.empty()) {
    absl::StrAppend(&field, " '", Displayable(field_name_, kMaxShownName), "'");
  } else if (field_kind_ != "header") {
    absl::StrAppend(&field, " number ", field_number_);
  }
  return absl::InvalidArgumentError(absl::StrCat("GGUF: ", field, ": ", problem, " (at byte ", offset, ")"));
}

std::string GgufParser::BytesLeft() const {
  const bool limited = file_->bytes_.size() > kMaxHeaderBytes;
  return absl::StrCat(cursor_.remaining(), " bytes left in the ",
                      limited ? "largest supported header, 256 MiB" : "file");
}

absl::Status GgufParser::CountTooLarge(uint64_t offset, absl::string_view what, uint64_t count) const {
  return Invalid(offset,
                 absl::StrCat(what, " is ", count, ", too many for the ", BytesLeft(), "; it is damaged or truncated"));
}

template <typename T>
absl::Status GgufParser::ReadField(absl::string_view what, T* out) {
  if (cursor_.Read(out)) return absl::OkStatus();
  return Invalid(cursor_.position(),
                 absl::StrCat(what, " needs ", sizeof(T), " bytes, but there are only ", BytesLeft()));
}

absl::StatusOr<absl::string_view> GgufParser::ReadString(absl::string_view what) {
  const uint64_t length_at = cursor_.position();
  uint64_t length = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("a string's length", &length));
  absl::string_view text;
  if (!cursor_.ReadBytes(length, &text)) {
    return Invalid(length_at,
                   absl::StrCat("the ", what, " is ", length, " bytes long, but there are only ", BytesLeft()));
  }
  return text;
}

absl::Status GgufParser::ReadPreamble() {
  absl::string_view magic;
  if (!cursor_.ReadBytes(kMagic.size(), &magic) || magic != kMagic) {
    return Invalid(0, "not a GGUF file: it does not begin with \"GGUF\"");
  }
  uint32_t version = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("version", &version));
  const uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= kNewestVersion) {
    return absl::UnimplementedError(absl::StrCat("GGUF: header: version ", swapped,
                                                 " in big-endian byte order (at byte 4); only little-endian files are "
                                                 "supported: convert the file"));
  }
  if (version < kOldestVersion || version > kNewestVersion) {
    return absl::UnimplementedError(absl::StrCat("GGUF: header: version is ", version,
                                                 " (at byte 4); versions 2 and 3 are supported: convert the file"));
  }
  file_->version_ = version;
  TANDEM_RETURN_IF_ERROR(ReadField("tensor count", &tensor_count_));
  TANDEM_RETURN_IF_ERROR(ReadField("metadata count", &metadata_count_));
  if (tensor_count_ > cursor_.remaining() / kMinTensorBytes) return CountTooLarge(8, "tensor count", tensor_count_);
  if (metadata_count_ > cursor_.remaining() / kMinMetadataBytes) {
    return CountTooLarge(16, "metadata count", metadata_count_);
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ReadMetadata() {
  const uint64_t expected = std::min(metadata_count_, kMaxReserve);
  file_->metadata_.reserve(expected);
  file_->metadata_index_.reserve(expected);
  field_kind_ = "metadata key";
  for (field_number_ = 0; field_number_ < metadata_count_; ++field_number_) {
    field_name_ = {};
    TANDEM_RETURN_IF_ERROR(ReadMetadataEntry());
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ReadMetadataEntry() {
  const uint64_t key_at = cursor_.position();
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view key, ReadString("key"));
  if (key.empty() || key.size() > kMaxKeyBytes) {
    return Invalid(key_at, absl::StrCat("the key is ", key.size(), " bytes long, must be 1 to ", kMaxKeyBytes));
  }
  field_name_ = key;
  if (!file_->metadata_index_.emplace(key, file_->metadata_.size()).second) {
    return Invalid(key_at, "the key occurs twice");
  }
  const uint64_t type_at = cursor_.position();
  uint32_t type = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("value type", &type));
  const uint64_t value_at = cursor_.position();
  TANDEM_ASSIGN_OR_RETURN(GgufValue value, ReadValue(type, type_at));
  if (key == kAlignmentKey) TANDEM_RETURN_IF_ERROR(TakeAlignment(value, value_at));
  file_->metadata_.emplace_back(key, std::move(value));
  return absl::OkStatus();
}

template <typename T>
absl::StatusOr<GgufValue> GgufParser::ReadScalar() {
  T value{};
  TANDEM_RETURN_IF_ERROR(ReadField("a value", &value));
  return GgufValue(std::in_place_type<T>, value);
}

absl::StatusOr<bool> GgufParser::ReadBool() {
  const uint64_t at = cursor_.position();
  uint8_t value = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("a value", &value));
  if (value > 1) return Invalid(at, absl::StrCat("a bool is ", value, ", must be 0 or 1"));
  return value == 1;
}

absl::StatusOr<GgufValue> GgufParser::ReadValue(uint32_t type, uint64_t type_at) {
  switch (type) {
    case kUint8:
      return ReadScalar<uint8_t>();
    case kInt8:
      return ReadScalar<int8_t>();
    case kUint16:
      return ReadScalar<uint16_t>();
    case kInt16:
      return ReadScalar<int16_t>();
    case kUint32:
      return ReadScalar<uint32_t>();
    case kInt32:
      return ReadScalar<int32_t>();
    case kFloat32:
      return ReadScalar<float>();
    case kBool: {
      TANDEM_ASSIGN_OR_RETURN(const bool value, ReadBool());
      return GgufValue(std::in_place_type<bool>, value);
    }
    case kString: {
      TANDEM_ASSIGN_OR_RETURN(const absl::string_view value, ReadString("value"));
      return GgufValue(std::in_place_type<absl::string_view>, value);
    }
    case kArray:
      return ReadArray();
    case kUint64:
      return ReadScalar<uint64_t>();
    case kInt64:
      return ReadScalar<int64_t>();
    case kFloat64:
      return ReadScalar<double>();
    default:
      return Invalid(type_at, absl::StrCat("value type is ", type, ", which is unknown (0 to 12 are known)"));
  }
}

absl::StatusOr<GgufValue> GgufParser::ReadArray() {
  const uint64_t type_at = cursor_.position();
  uint32_t type = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("array element type", &type));
  const uint64_t count_at = cursor_.position();
  uint64_t count = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("array length", &count));
  absl::StatusOr<GgufArray> array;
  switch (type) {
    case kUint8:
      array = ReadNumbers<uint8_t>(count, count_at);
      break;
    case kInt8:
      array = ReadNumbers<int8_t>(count, count_at);
      break;
    case kUint16:
      array = ReadNumbers<uint16_t>(count, count_at);
      break;
    case kInt16:
      array = ReadNumbers<int16_t>(count, count_at);
      break;
    case kUint32:
      array = ReadNumbers<uint32_t>(count, count_at);
      break;
    case kInt32:
      array = ReadNumbers<int32_t>(count, count_at);
      break;
    case kFloat32:
      array = ReadNumbers<float>(count, count_at);
      break;
    case kBool:
      array = ReadBools(count, count_at);
      break;
    case kString:
      array = ReadStrings(count, count_at);
      break;
    case kArray:
      return Invalid(type_at, "arrays of arrays are not supported");
    case kUint64:
      array = ReadNumbers<uint64_t>(count, count_at);
      break;
    case kInt64:
      array = ReadNumbers<int64_t>(count, count_at);
      break;
    case kFloat64:
      array = ReadNumbers<double>(count, count_at);
      break;
    default:
      return Invalid(type_at, absl::StrCat("array element type is ", type, ", which is unknown (0 to 12 are known)"));
  }
  if (!array.ok()) return std::move(array).status();
  return GgufValue(std::in_place_type<GgufArray>, *std::move(array));
}

template <typename T>
absl::StatusOr<GgufArray> GgufParser::ReadNumbers(uint64_t count, uint64_t count_at) {
  if (count > cursor_.remaining() / sizeof(T)) return CountTooLarge(count_at, "array length", count);
  absl::string_view raw;
  if (!cursor_.ReadBytes(count * sizeof(T), &raw)) return CountTooLarge(count_at, "array length", count);
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), raw.data(), raw.size());
  return GgufArray(std::move(values));
}

absl::StatusOr<GgufArray> GgufParser::ReadBools(uint64_t count, uint64_t count_at) {
  if (count > cursor_.remaining()) return CountTooLarge(count_at, "array length", count);
  std::vector<bool> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const bool value, ReadBool());
    values[i] = value;
  }
  return GgufArray(std::move(values));
}

absl::StatusOr<GgufArray> GgufParser::ReadStrings(uint64_t count, uint64_t count_at) {
  if (count > cursor_.remaining() / kMinStringBytes) return CountTooLarge(count_at, "array length", count);
  std::vector<absl::string_view> values;
  values.reserve(std::min(count, kMaxReserve));
  for (uint64_t i = 0; i < count; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const absl::string_view value, ReadString("string in the array"));
    values.push_back(value);
  }
  return GgufArray(std::move(values));
}

absl::Status GgufParser::TakeAlignment(const GgufValue& value, uint64_t value_at) {
  const uint32_t* alignment = std::get_if<uint32_t>(&value);
  if (alignment == nullptr) return Invalid(value_at, "must be of type uint32");
  if (!std::has_single_bit(*alignment) || *alignment < kMinAlignment || *alignment > kMaxAlignment) {
    return Invalid(value_at, absl::StrCat("is ", *alignment, ", must be a power of two from ", kMinAlignment, " to ",
                                          kMaxAlignment));
  }
  file_->alignment_ = *alignment;
  return absl::OkStatus();
}

absl::Status GgufParser::ReadTensorInfos() {
  field_kind_ = "tensor";
  if (tensor_count_ > cursor_.remaining() / kMinTensorBytes) {
    field_kind_ = "header";
    field_name_ = {};
    return CountTooLarge(8, "tensor count", tensor_count_);
  }
  const uint64_t expected = std::min(tensor_count_, kMaxReserve);
  file_->tensors_.reserve(expected);
  file_->tensor_index_.reserve(expected);
  offset_fields_.reserve(expected);
  for (field_number_ = 0; field_number_ < tensor_count_; ++field_number_) {
    field_name_ = {};
    TANDEM_RETURN_IF_ERROR(ReadTensorInfo());
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ReadTensorInfo() {
  const uint64_t name_at = cursor_.position();
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view name, ReadString("name"));
  if (name.empty()) return Invalid(name_at, "the name is empty");
  field_name_ = name;
  // The index's keys are views into the file, not into GgufTensor::name, which may move.
  if (!file_->tensor_index_.emplace(name, file_->tensors_.size()).second) {
    return Invalid(name_at, "the name occurs twice");
  }
  const uint64_t dims_at = cursor_.position();
  uint32_t n_dims = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("n_dims", &n_dims));
  if (n_dims < 1 || n_dims > kMaxDims) {
    return Invalid(dims_at, absl::StrCat("n_dims is ", n_dims, ", must be 1 to ", kMaxDims));
  }
  GgufTensor tensor{.name = std::string(name), .dims = std::vector<uint64_t>(n_dims)};
  for (uint64_t& dim : tensor.dims) TANDEM_RETURN_IF_ERROR(ReadField("dims", &dim));
  const uint64_t type_at = cursor_.position();
  uint32_t type = 0;
  TANDEM_RETURN_IF_ERROR(ReadField("type", &type));
  tensor.type = static_cast<TensorType>(type);
  const absl::StatusOr<uint64_t> bytes = TensorBytes(tensor.type, tensor.dims);
  if (!bytes.ok()) {
    return Invalid(FindBlockFormat(tensor.type) == nullptr ? type_at : dims_at, bytes.status().message());
  }
  tensor.bytes = *bytes;
  offset_fields_.push_back(cursor_.position());
  TANDEM_RETURN_IF_ERROR(ReadField("offset", &tensor.offset));
  file_->tensors_.push_back(std::move(tensor));
  return absl::OkStatus();
}

// Offsets were relative to the data section, which begins where the infos end, aligned; from here on they count from
// the start of the file.
absl::Status GgufParser::PlaceTensors() {
  const uint64_t size = file_->file_bytes_;
  const uint64_t alignment = file_->alignment_;
  // No overflow: the position is within the file, and the alignment at most 1 MiB.
  const uint64_t data = (cursor_.position() + alignment - 1) / alignment * alignment;
  file_->data_offset_ = std::min(data, size);  // a file without tensors may end before its padding
  for (field_number_ = 0; field_number_ < tensor_count_; ++field_number_) {
    GgufTensor& tensor = file_->tensors_[field_number_];
    const uint64_t field_at = offset_fields_[field_number_];
    field_name_ = tensor.name;
    if (tensor.offset % alignment != 0) {
      return Invalid(field_at, absl::StrCat("offset is ", tensor.offset, ", must be a multiple of ", alignment));
    }
    if (data > size || tensor.offset > size - data || tensor.bytes > size - data - tensor.offset) {
      return Invalid(
          field_at, absl::StrCat("the data, ", tensor.bytes, " bytes at offset ", tensor.offset,
                                 " of the data section, which begins at byte ", data,
                                 ", pass the end of the file, which has ", size, " bytes; it is truncated or damaged"));
    }
    tensor.offset += data;
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
