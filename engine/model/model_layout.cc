#include "engine/model/model_layout.h"

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
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

absl::Status CheckShape(const GgufFile& file, absl::string_view name, std::vector<uint64_t> dims) {
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

// A vector or a table that is read row by row: any format that can be dequantised.
absl::Status CheckRows(const GgufFile& file, absl::string_view name, std::vector<uint64_t> dims) {
  TANDEM_RETURN_IF_ERROR(CheckShape(file, name, std::move(dims)));
  const TensorType type = file.FindTensor(name)->type;
  const BlockFormat* format = FindBlockFormat(type);
  if (format != nullptr && format->computable()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrFormat("tensor %s has type %s, which Tandem cannot read; it reads %s", name,
                                                  TypeName(type),
                                                  FormatNames([](const BlockFormat& f) { return f.computable(); })));
}

absl::Status CheckMatrix(const GgufFile& file, absl::string_view name, int64_t rows, int64_t cols) {
  TANDEM_RETURN_IF_ERROR(CheckShape(file, name, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)}));
  const TensorType type = file.FindTensor(name)->type;
  if (HasKernels(type)) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrFormat("tensor %s has type %s, which Tandem does not multiply by; it does by %s", name, TypeName(type),
                      FormatNames([](const BlockFormat& f) { return HasKernels(f.type); })));
}

}  // namespace

std::string LayerTensorName(int32_t layer, absl::string_view part) {
  return absl::StrCat("blk.", layer, ".", part, ".weight");
}

std::array<LayerPart, kLayerParts> LayerParts(const ModelSpec& spec) {
  const int64_t hidden = spec.hidden, ffn = spec.ffn;
  const int64_t q = int64_t{spec.heads} * spec.head_dim, kv = int64_t{spec.kv_heads} * spec.head_dim;
  return {{{"attn_norm", false, 1, hidden},
           {"attn_q", true, q, hidden},
           {"attn_k", true, kv, hidden},
           {"attn_v", true, kv, hidden},
           {"attn_output", true, hidden, q},
           {"ffn_norm", false, 1, hidden},
           {"ffn_gate", true, ffn, hidden},
           {"ffn_up", true, ffn, hidden},
           {"ffn_down", true, hidden, ffn}}};
}

absl::Status CheckTensors(const ModelSpec& spec, const GgufFile& file) {
  absl::flat_hash_set<std::string> known;
  const uint64_t hidden = spec.hidden, vocab = spec.vocab;
  TANDEM_RETURN_IF_ERROR(CheckRows(file, kEmbeddingName, {hidden, vocab}));
  TANDEM_RETURN_IF_ERROR(CheckRows(file, kOutputNormName, {hidden}));
  TANDEM_RETURN_IF_ERROR(CheckMatrix(file, spec.tied_head ? kEmbeddingName : kHeadName, spec.vocab, spec.hidden));
  known.insert({kEmbeddingName, kOutputNormName, kHeadName});
  if (file.FindTensor(kRopeFactorsName) != nullptr) {
    TANDEM_RETURN_IF_ERROR(CheckRows(file, kRopeFactorsName, {static_cast<uint64_t>(spec.rope.dims / 2)}));
    known.insert(kRopeFactorsName);
  }
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    for (const LayerPart& part : LayerParts(spec)) {
      std::string name = LayerTensorName(layer, part.name);
      TANDEM_RETURN_IF_ERROR(part.is_matrix ? CheckMatrix(file, name, part.rows, part.cols)
                                            : CheckRows(file, name, {static_cast<uint64_t>(part.cols)}));
      known.insert(std::move(name));
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    // Old converters stored the rotary frequencies of each layer, which follow from the hyperparameters.
    if (known.contains(tensor.name) || absl::EndsWith(tensor.name, ".attn_rot_embd.weight")) continue;
    return absl::UnimplementedError(
        absl::StrFormat("tensor %s is no part of a llama model that Tandem computes (%d layers without biases)",
                        tensor.name, spec.num_layers));
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
