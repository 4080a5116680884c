#include "engine/model/model_layout.h"

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/kernel_table.h"

namespace tandem::engine {
namespace {

std::string TypeName(TensorType type) {
  const BlockFormat* format = FindBlockFormat(type);
  return format ? std::string(format->name) : absl::StrCat("number ", static_cast<uint32_t>(type));
}

// Names of the formats that `accept` holds for, for messages.
template <typename Accept>
std::string FormatNames(Accept accept) {
  std::vector<absl::string_view> names;
  for (const BlockFormat& format : AllBlockFormats()) {
    if (accept(format)) names.push_back(format.name);
  }
  return absl::StrJoin(names, ", ");
}

absl::Status CheckShape(const GgufFile& file, absl::string_view name, const std::vector<uint64_t>& dims) {
  const GgufTensor* tensor = file.FindTensor(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s is missing: the file is not a whole model", name));
  }
  if (tensor->dims != dims) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s has shape [%s], but the model's hyperparameters imply [%s] (fastest axis first)",
                        name, absl::StrJoin(tensor->dims, ", "), absl::StrJoin(dims, ", ")));
  }
  return absl::OkStatus();
}

// A vector: any format that can be dequantised.
absl::Status CheckVector(const GgufFile& file, absl::string_view name, const std::vector<uint64_t>& dims) {
  TANDEM_RETURN_IF_ERROR(CheckShape(file, name, dims));
  const TensorType type = file.FindTensor(name)->type;
  const BlockFormat* format = FindBlockFormat(type);
  if (format != nullptr && format->computable()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrFormat("tensor %s has type %s, which Tandem cannot read; it reads %s", name,
                                                  TypeName(type),
                                                  FormatNames([](const BlockFormat& f) { return f.computable(); })));
}

absl::Status CheckMatrix(const GgufFile& file, absl::string_view name, const std::vector<uint64_t>& dims) {
  TANDEM_RETURN_IF_ERROR(CheckShape(file, name, dims));
  const TensorType type = file.FindTensor(name)->type;
  if (HasKernels(type)) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrFormat("tensor %s has type %s, which Tandem does not multiply by; it does by %s", name, TypeName(type),
                      FormatNames([](const BlockFormat& f) { return HasKernels(f.type); })));
}

// Tensors that a model may hold without computing anything else for it.
bool IsHarmless(const ModelSpec& spec, absl::string_view name) {
  // Old converters stored the rotary frequencies of each layer, which follow from the hyperparameters.
  if (absl::EndsWith(name, ".attn_rot_embd.weight")) return true;
  // LongRoPE: factors for another length of context than the one in use.
  if (!spec.rope_factors.empty() && absl::StartsWith(name, "rope_factors_")) return true;
  // Layers that predict further tokens come after those of the model itself.
  int32_t layer = 0;
  const absl::string_view rest = absl::StripPrefix(name, "blk.");
  const size_t dot = rest.find('.');
  if (rest.size() < name.size() && dot != absl::string_view::npos && absl::SimpleAtoi(rest.substr(0, dot), &layer) &&
      layer >= spec.num_layers && layer < spec.num_layers + spec.ignored_layers) {
    return true;
  }
  // Compressed attention, given both as one matrix and apart.
  return spec.kv_rank > 0 && absl::EndsWith(name, ".attn_kv_b.weight");
}

}  // namespace

std::string LayerTensorName(int32_t layer, absl::string_view part) {
  return absl::StrCat("blk.", layer, ".", part, ".weight");
}

absl::Status CheckTensors(const ModelSpec& spec, const GgufFile& file) {
  absl::flat_hash_set<std::string> known;
  const uint64_t hidden = spec.hidden, vocab = spec.vocab;
  TANDEM_RETURN_IF_ERROR(CheckMatrix(file, kEmbeddingName, {hidden, vocab}));
  TANDEM_RETURN_IF_ERROR(CheckVector(file, kOutputNormName, {hidden}));
  if (!spec.tied_head) TANDEM_RETURN_IF_ERROR(CheckMatrix(file, kHeadName, {hidden, vocab}));
  known.insert({kEmbeddingName, kOutputNormName, kHeadName});
  if (spec.row->norm == NormKind::kLayerBias) {
    TANDEM_RETURN_IF_ERROR(CheckVector(file, kOutputNormBiasName, {hidden}));
    known.insert(kOutputNormBiasName);
  }
  if (!spec.rope_factors.empty()) {
    TANDEM_RETURN_IF_ERROR(CheckVector(file, spec.rope_factors, {static_cast<uint64_t>(spec.rope.dims / 2)}));
    known.insert(spec.rope_factors);
  }
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    for (LayerTensor& tensor : LayerTensors(spec, file, layer)) {
      TANDEM_RETURN_IF_ERROR(tensor.is_vector() ? CheckVector(file, tensor.name, tensor.dims)
                                                : CheckMatrix(file, tensor.name, tensor.dims));
      known.insert(std::move(tensor.name));
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (known.contains(tensor.name) || IsHarmless(spec, tensor.name)) continue;
    return absl::UnimplementedError(
        absl::StrFormat("tensor %s is no part of a %s model that Tandem computes (%d layers)", tensor.name,
                        spec.architecture, spec.num_layers));
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
