#include "engine/model/adapter.h"

#include <cmath>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/packed_matrix.h"

namespace tandem::engine {
namespace {

constexpr char kHalfA[] = ".lora_a", kHalfB[] = ".lora_b";

absl::Status ExpectString(const GgufFile& file, absl::string_view key, absl::string_view expected) {
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view value, file.GetString(key));
  if (value == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is \"%s\", expected \"%s\"", key, std::string(value.substr(0, 64)), std::string(expected)));
}

absl::Status CheckMetadata(const GgufFile& adapter, const ModelSpec& spec) {
  TANDEM_RETURN_IF_ERROR(ExpectString(adapter, "general.type", "adapter"));
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view kind, adapter.GetString("adapter.type"));
  if (kind != "lora") {
    return absl::UnimplementedError(
        absl::StrFormat("adapter.type is \"%s\"; Tandem has \"lora\"", std::string(kind.substr(0, 64))));
  }
  return ExpectString(adapter, "general.architecture", spec.architecture);
}

// One half of an adapted tensor; `expected` is its shape, fastest axis first.
absl::Status CheckHalf(const GgufTensor& tensor, uint64_t cols, uint64_t rows) {
  if (tensor.dims.size() > 2 || tensor.cols() != cols || tensor.rows() != rows) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s has shape [%s], expected [%d, %d] (fastest axis first)", tensor.name,
                        absl::StrJoin(tensor.dims, ", "), cols, rows));
  }
  const BlockFormat* format = FindBlockFormat(tensor.type);
  if (format != nullptr && format->computable()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrFormat("tensor %s has type %d, which Tandem cannot read", tensor.name,
                                                  static_cast<uint32_t>(tensor.type)));
}

uint64_t RowsOf(const LayerTensor& tensor) {
  int64_t rows = 0;
  for (const Destination& part : tensor.parts) rows += part.rows;
  return static_cast<uint64_t>(rows);
}

// The halves for `base`, if the adapter has them.
absl::Status AddTensor(const GgufFile& adapter, int32_t layer, const LayerTensor& base, AdapterSpec* spec) {
  AdaptedTensor adapted;
  adapted.layer = layer;
  adapted.base = base;
  adapted.a = base.name + kHalfA;
  adapted.b = base.name + kHalfB;
  const GgufTensor* a = adapter.FindTensor(adapted.a);
  const GgufTensor* b = adapter.FindTensor(adapted.b);
  if (a == nullptr && b == nullptr) return absl::OkStatus();
  if (a == nullptr || b == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s is missing beside its other half", a == nullptr ? adapted.a : adapted.b));
  }
  if (!IsAdaptable(base)) {
    return absl::UnimplementedError(absl::StrFormat(
        "the adapter changes tensor %s; Tandem adapts the matrices of a layer that every token goes through",
        base.name));
  }
  const uint64_t rank = a->rows();
  if (rank < 1 || rank > static_cast<uint64_t>(kMaxAdapterRank)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s has rank %d, expected 1 to %d", adapted.a, rank, kMaxAdapterRank));
  }
  TANDEM_RETURN_IF_ERROR(CheckHalf(*a, static_cast<uint64_t>(base.cols), rank));
  TANDEM_RETURN_IF_ERROR(CheckHalf(*b, rank, RowsOf(base)));
  adapted.rank = static_cast<int64_t>(rank);
  spec->tensors.push_back(std::move(adapted));
  return absl::OkStatus();
}

absl::Status CheckAllUsed(const GgufFile& adapter, const AdapterSpec& spec, const GgufFile& model) {
  absl::flat_hash_set<absl::string_view> used;
  for (const AdaptedTensor& tensor : spec.tensors) {
    used.insert(tensor.a);
    used.insert(tensor.b);
  }
  for (const GgufTensor& tensor : adapter.tensors()) {
    if (used.contains(tensor.name)) continue;
    absl::string_view base = tensor.name;
    if (!absl::ConsumeSuffix(&base, kHalfA) && !absl::ConsumeSuffix(&base, kHalfB)) {
      return absl::UnimplementedError(
          absl::StrFormat("tensor %s is neither NAME%s nor NAME%s", tensor.name, kHalfA, kHalfB));
    }
    if (model.FindTensor(base) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the adapter changes tensor %s, which the model does not have", std::string(base)));
    }
    return absl::UnimplementedError(
        absl::StrFormat("the adapter changes tensor %s; Tandem adapts the matrices of layers only", std::string(base)));
  }
  if (!spec.tensors.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("the adapter has no tensors");
}

uint64_t PackedBytes(TensorType type, int64_t rows, int64_t cols) {
  return PackedGroupBytes(type, static_cast<uint64_t>(cols)) *
         static_cast<uint64_t>((rows + kRowGroup - 1) / kRowGroup);
}

}  // namespace

bool IsAdaptable(const LayerTensor& tensor) {
  for (const Destination& part : tensor.parts) {
    if (part.matrix == nullptr || part.transposed) return false;
  }
  return true;
}

absl::StatusOr<AdapterSpec> ReadAdapter(const GgufFile& adapter, const ModelSpec& spec, const GgufFile& model) {
  TANDEM_RETURN_IF_ERROR(CheckMetadata(adapter, spec));
  AdapterSpec result;
  TANDEM_ASSIGN_OR_RETURN(const double alpha, adapter.GetFloat("adapter.lora.alpha"));
  result.alpha = static_cast<float>(alpha);
  if (!std::isfinite(result.alpha)) {
    return absl::InvalidArgumentError(absl::StrFormat("adapter.lora.alpha is %g", alpha));
  }
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    for (const LayerTensor& base : LayerTensors(spec, model, layer)) {
      TANDEM_RETURN_IF_ERROR(AddTensor(adapter, layer, base, &result));
    }
  }
  TANDEM_RETURN_IF_ERROR(CheckAllUsed(adapter, result, model));
  return result;
}

std::vector<std::string> AdapterTensorNames(const AdapterSpec& adapter, int32_t first, int32_t end) {
  std::vector<std::string> names;
  for (const AdaptedTensor& tensor : adapter.tensors) {
    if (tensor.layer < first || tensor.layer >= end) continue;
    names.push_back(tensor.a);
    names.push_back(tensor.b);
  }
  return names;
}

TensorType PackedAdapterType(TensorType type) { return type == TensorType::kF16 ? type : TensorType::kF32; }

uint64_t AdapterBytes(const AdapterSpec& adapter, const GgufFile& file, int32_t layer) {
  uint64_t bytes = 0;
  for (const AdaptedTensor& tensor : adapter.tensors) {
    if (tensor.layer != layer) continue;
    const TensorType a = PackedAdapterType(file.FindTensor(tensor.a)->type);
    const TensorType b = PackedAdapterType(file.FindTensor(tensor.b)->type);
    for (const Destination& part : tensor.base.parts) {
      bytes += PackedBytes(a, tensor.rank, tensor.base.cols) + PackedBytes(b, part.rows, tensor.rank);
    }
  }
  return bytes;
}

}  // namespace tandem::engine
