#include "engine/conversion/importance_matrix.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {
namespace {

constexpr absl::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr int32_t kMaxNameBytes = 4096;

absl::StatusOr<std::vector<float>> ReadFloats(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != TensorType::kF32) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor.name, " is no F32, as importances are"));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, file.ReadAll(tensor));
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Takes fields from the front of a file's bytes.
class Fields {
 public:
  explicit Fields(absl::string_view bytes) : bytes_(bytes) {}
  bool Int(int32_t* out) { return Copy(out, sizeof(*out)); }
  bool Copy(void* out, size_t size) {
    if (bytes_.size() < size) return false;
    std::memcpy(out, bytes_.data(), size);
    bytes_.remove_prefix(size);
    return true;
  }
  size_t left() const { return bytes_.size(); }

 private:
  absl::string_view bytes_;
};

}  // namespace

std::span<const float> ImportanceMatrix::For(absl::string_view tensor) const {
  const auto it = values_.find(tensor);
  return it == values_.end() ? std::span<const float>() : std::span<const float>(it->second);
}

absl::StatusOr<ImportanceMatrix> ImportanceMatrix::Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  if (!file || !file.read(magic, sizeof(magic)) || absl::string_view(magic, 4) == "GGUF") return LoadGguf(path);
  file.seekg(0);
  absl::StatusOr<ImportanceMatrix> matrix = ParseOld(std::string(std::istreambuf_iterator<char>(file), {}));
  if (!matrix.ok()) {
    return absl::Status(matrix.status().code(), absl::StrCat(path, ": ", matrix.status().message()));
  }
  return matrix;
}

absl::StatusOr<ImportanceMatrix> ImportanceMatrix::LoadGguf(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  ImportanceMatrix matrix;
  for (const GgufTensor& tensor : file->tensors()) {
    absl::string_view name = tensor.name;
    if (!absl::ConsumeSuffix(&name, kSums)) continue;
    const GgufTensor* counted = file->FindTensor(absl::StrCat(name, kCounts));
    if (counted == nullptr || counted->cols() * counted->rows() != tensor.rows()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", tensor.name, " has no ", kCounts, " of ", tensor.rows(), " numbers beside it"));
    }
    TANDEM_ASSIGN_OR_RETURN(std::vector<float> values, ReadFloats(*file, tensor));
    TANDEM_ASSIGN_OR_RETURN(const std::vector<float> counts, ReadFloats(*file, *counted));
    for (size_t i = 0; i < values.size(); ++i) {
      const float count = counts[i / tensor.cols()];
      // An expert that no token of the text met says nothing: all its columns count alike.
      values[i] = count > 0 ? values[i] / count : 1.0f;
    }
    matrix.values_.emplace(std::string(name), std::move(values));
  }
  if (matrix.values_.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": is no importance matrix"));
  return matrix;
}

absl::StatusOr<ImportanceMatrix> ImportanceMatrix::ParseOld(absl::string_view bytes) {
  Fields fields(bytes);
  ImportanceMatrix matrix;
  int32_t entries = 0;
  const auto invalid = [&](const auto&... problem) {
    return absl::InvalidArgumentError(absl::StrCat("is no importance matrix, or damaged: ", problem...));
  };
  if (!fields.Int(&entries) || entries < 1) return invalid("it has ", entries, " entries");
  for (int32_t entry = 0; entry < entries; ++entry) {
    int32_t length = 0, calls = 0, count = 0;
    if (!fields.Int(&length) || length < 1 || length > kMaxNameBytes) {
      return invalid("the name of entry ", entry, " has ", length, " bytes");
    }
    std::string name(length, '\0');
    if (!fields.Copy(name.data(), name.size()) || !fields.Int(&calls) || !fields.Int(&count)) {
      return invalid("it ends in entry ", entry);
    }
    if (count < 1 || static_cast<size_t>(count) > fields.left() / sizeof(float)) {
      return invalid("entry ", entry, " has ", count, " values, ", fields.left(), " bytes are left");
    }
    std::vector<float> values(count);
    fields.Copy(values.data(), values.size() * sizeof(float));
    matrix.values_.emplace(std::move(name), std::move(values));
  }
  return matrix;
}

}  // namespace tandem::engine
