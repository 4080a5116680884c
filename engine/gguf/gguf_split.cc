#include "engine/gguf/gguf_split.h"

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_file.h"
#include "engine/gguf/gguf_parser.h"
#include "engine/gguf/gguf_text.h"

namespace tandem::engine {
namespace {

using Parts = std::vector<std::unique_ptr<GgufFile>>;

constexpr size_t kPreambleBytes = 24;  // magic, version, tensor count, metadata count
constexpr size_t kTensorCountAt = 8;

template <typename T>
void Append(T value, std::vector<std::byte>* out) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out->insert(out->end(), bytes, bytes + sizeof(value));
}

void AppendInfo(const GgufTensor& tensor, uint64_t offset, std::vector<std::byte>* out) {
  Append<uint64_t>(tensor.name.size(), out);
  const auto* name = reinterpret_cast<const std::byte*>(tensor.name.data());
  out->insert(out->end(), name, name + tensor.name.size());
  Append(static_cast<uint32_t>(tensor.dims.size()), out);
  for (const uint64_t dim : tensor.dims) Append(dim, out);
  Append(static_cast<uint32_t>(tensor.type), out);
  Append(offset, out);
}

uint64_t Aligned(uint64_t bytes, uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

absl::Status CheckNumber(const GgufFile& file, const std::string& part, const char* key, uint64_t expected,
                         absl::string_view hint) {
  const absl::StatusOr<uint64_t> value = file.GetUint(key);
  if (!value.ok()) return absl::InvalidArgumentError(absl::StrCat(part, ": ", value.status().message()));
  if (*value == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(part, ": ", key, " is ", *value, ", expected ", expected, ": ", hint));
}

// Metadata that a later part repeats must be that of the first one, or the parts belong to different models.
absl::Status CheckSameModel(const GgufFile& first, const GgufFile& file, const std::string& part) {
  for (const auto& [key, value] : file.metadata()) {
    const GgufValue* original = first.Find(key);
    if (original == nullptr || *original == value || key == kSplitNoKey || key == "general.alignment") continue;
    return absl::InvalidArgumentError(absl::StrCat(part, ": ", Displayable(key, kMaxShownName), " is ",
                                                   FormatValue(value), ", but ", FormatValue(*original),
                                                   " in the first part: it belongs to another model"));
  }
  return absl::OkStatus();
}

absl::Status CheckParts(const Parts& parts) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t total, parts[0]->GetUint(kSplitTensorsKey));
  absl::flat_hash_map<absl::string_view, size_t> holders;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part = absl::StrCat("part ", i + 1, " of ", parts.size());
    TANDEM_RETURN_IF_ERROR(CheckNumber(*parts[i], part, kSplitCountKey, parts.size(), "it belongs to another model"));
    TANDEM_RETURN_IF_ERROR(CheckNumber(*parts[i], part, kSplitNoKey, i, "it is another part under this part's name"));
    TANDEM_RETURN_IF_ERROR(CheckNumber(*parts[i], part, kSplitTensorsKey, total, "it belongs to another model"));
    TANDEM_RETURN_IF_ERROR(CheckSameModel(*parts[0], *parts[i], part));
    for (const GgufTensor& tensor : parts[i]->tensors()) {
      const auto [holder, is_new] = holders.emplace(tensor.name, i);
      if (is_new) continue;
      return absl::InvalidArgumentError(absl::StrCat(part, ": tensor ", Displayable(tensor.name, kMaxShownName),
                                                     " is in part ", holder->second + 1, " already"));
    }
  }
  if (holders.size() == total) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the ", parts.size(), " parts have ", holders.size(), " tensors, but ",
                                                 kSplitTensorsKey, " is ", total,
                                                 ": a part is damaged or of another model"));
}

}  // namespace

std::string SplitName::PathOf(uint32_t other_part) const {
  return absl::StrFormat("%s-%05d-of-%05d.gguf", prefix, other_part, count);
}

std::optional<SplitName> ParseSplitName(absl::string_view path) {
  static constexpr absl::string_view kShape = "-#####-of-#####.gguf";  // # is a digit
  if (path.size() <= kShape.size()) return std::nullopt;
  const absl::string_view end = path.substr(path.size() - kShape.size());
  for (size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] == '#' ? !absl::ascii_isdigit(static_cast<unsigned char>(end[i])) : end[i] != kShape[i]) {
      return std::nullopt;
    }
  }
  SplitName name{.prefix = std::string(path.substr(0, path.size() - kShape.size()))};
  if (!absl::SimpleAtoi(end.substr(1, 5), &name.part) || !absl::SimpleAtoi(end.substr(10, 5), &name.count) ||
      name.part < 1 || name.part > name.count) {
    return std::nullopt;
  }
  return name;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::OpenParts(const std::string& path,
                                                              std::unique_ptr<GgufFile> opened) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t count, opened->GetUint(kSplitCountKey));
  const auto invalid = [&](const auto&... problem) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is one of ", count, " parts (split.count), ", problem...));
  };
  if (count > kMaxParts) return invalid("at most ", kMaxParts, " are supported: merge them");
  const std::optional<SplitName> name = ParseSplitName(path);
  if (!name.has_value() || name->count != count) {
    return invalid("but its name does not end in ", absl::StrFormat("-00001-of-%05d.gguf", count),
                   " or the like, so the others cannot be found; give it its name back");
  }
  Parts parts(count);
  for (uint32_t part = 1; part <= count; ++part) {
    if (part == name->part) {
      parts[part - 1] = std::move(opened);
      continue;
    }
    absl::StatusOr<std::unique_ptr<GgufFile>> file = OpenOne(name->PathOf(part));
    if (!file.ok()) {
      return absl::Status(file.status().code(), absl::StrCat(file.status().message(), "; ", path, " is one of ", count,
                                                             " parts, which must lie in one folder"));
    }
    parts[part - 1] = *std::move(file);
  }
  absl::StatusOr<std::unique_ptr<GgufFile>> joined = Join(std::move(parts));
  if (!joined.ok()) {
    return absl::Status(joined.status().code(), absl::StrCat(name->PathOf(1), ": ", joined.status().message()));
  }
  return joined;
}

// The header of the joined file is made of bytes like any other and parsed like any other, so that a worker which gets
// it from a coordinator, and the fingerprint, need not know of parts.
absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Join(Parts parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a model file has at least one part");
  TANDEM_RETURN_IF_ERROR(CheckParts(parts));
  const GgufFile& first = *parts[0];
  std::vector<std::byte> header(first.bytes_.begin(), first.bytes_.begin() + first.infos_offset_);
  std::vector<Place> places;
  uint64_t data_bytes = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    const std::span<const GgufTensor> tensors = parts[part]->tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      AppendInfo(tensors[i], data_bytes, &header);
      places.push_back({.part = part, .tensor = i});
      if (tensors[i].bytes > (uint64_t{1} << 62) - data_bytes) {
        return absl::InvalidArgumentError("the parts together have more than 2^62 bytes");
      }
      data_bytes += Aligned(tensors[i].bytes, first.alignment_);
    }
  }
  const uint64_t tensor_count = places.size();
  static_assert(kPreambleBytes > kTensorCountAt + sizeof(tensor_count));
  std::memcpy(header.data() + kTensorCountAt, &tensor_count, sizeof(tensor_count));
  header.resize(Aligned(header.size(), first.alignment_));
  const uint64_t file_bytes = header.size() + data_bytes;
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> joined, ParseHeader(std::move(header), file_bytes));
  joined->parts_ = std::move(parts);
  joined->places_ = std::move(places);
  return joined;
}

}  // namespace tandem::engine
