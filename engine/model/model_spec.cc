#include "engine/model/model_spec.h"

#include <cmath>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/model/model_layout.h"

namespace tandem::engine {
namespace {

// Far above any known model; they keep every size below computable in 64 bits.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxWidth = 1 << 20;  // of the hidden state, and of all heads together
constexpr int64_t kMaxFfn = 1 << 22;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr double kMaxRopeBase = 4e8;  // bound of CanonicalPow: |log(base)| <= 20

// Reads the hyperparameters of one architecture; every error names the key, what was found and what was expected.
class SpecReader {
 public:
  SpecReader(const GgufFile& file, absl::string_view architecture) : file_(file), prefix_(architecture) {}

  std::string Key(absl::string_view name) const { return absl::StrCat(prefix_, ".", name); }
  bool Has(absl::string_view name) const { return file_.Has(Key(name)); }

  // The integer at `name`, within [min, max]. Where the file has none: `fallback`, or an error without one.
  absl::Status Int(absl::string_view name, int64_t min, int64_t max, std::optional<int64_t> fallback,
                   int32_t* out) const {
    const std::string key = Key(name);
    if (!file_.Has(key) && fallback.has_value()) {
      *out = static_cast<int32_t>(*fallback);
      return absl::OkStatus();
    }
    TANDEM_RETURN_IF_ERROR(CheckPresent(key));
    TANDEM_ASSIGN_OR_RETURN(const int64_t value, file_.GetInt(key));
    if (value < min || value > max) {
      return absl::InvalidArgumentError(absl::StrFormat("%s is %d, expected %d to %d", key, value, min, max));
    }
    *out = static_cast<int32_t>(value);
    return absl::OkStatus();
  }

  // Likewise for a finite number within [min, max].
  absl::Status Float(absl::string_view name, double min, double max, std::optional<double> fallback, float* out) const {
    const std::string key = Key(name);
    if (!file_.Has(key) && fallback.has_value()) {
      *out = static_cast<float>(*fallback);
      return absl::OkStatus();
    }
    TANDEM_RETURN_IF_ERROR(CheckPresent(key));
    TANDEM_ASSIGN_OR_RETURN(const double value, file_.GetFloat(key));
    if (!(value >= min && value <= max)) {
      return absl::InvalidArgumentError(absl::StrFormat("%s is %g, expected %g to %g", key, value, min, max));
    }
    *out = static_cast<float>(value);
    return absl::OkStatus();
  }

 private:
  absl::Status CheckPresent(const std::string& key) const {
    if (file_.Has(key)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("%s is missing: the file does not describe a whole model", key));
  }

  const GgufFile& file_;
  const std::string prefix_;
};

absl::Status ReadRopeScaling(const GgufFile& file, const SpecReader& reader, int32_t context, RopeSpec* rope) {
  const char* factor_key = reader.Has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  absl::string_view type = reader.Has(factor_key) ? "linear" : "none";  // files older than the type key
  if (reader.Has("rope.scaling.type")) {
    TANDEM_ASSIGN_OR_RETURN(type, file.GetString(reader.Key("rope.scaling.type")));
  }
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.attn_factor", 1e-3, 1e3, 1.0, &rope->attn_factor));
  if (type == "none") return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(reader.Float(factor_key, 0.0, 1e6, 1.0, &rope->factor));
  if (rope->factor == 0.0f) rope->factor = 1.0f;  // some converters write 0 for "not scaled"
  if (rope->factor < 1.0f) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is %g, expected at least 1", reader.Key(factor_key), rope->factor));
  }
  if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
    return absl::OkStatus();
  }
  if (type != "yarn") {
    return absl::UnimplementedError(
        absl::StrFormat("%s is \"%s\", which Tandem does not compute; it does none, linear and yarn",
                        reader.Key("rope.scaling.type"), type));
  }
  rope->scaling = RopeScaling::kYarn;
  TANDEM_RETURN_IF_ERROR(reader.Int("rope.scaling.original_context_length", 1, std::numeric_limits<int32_t>::max(),
                                    context, &rope->original_context));
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_ext_factor", 0.0, 1.0, 1.0, &rope->yarn_ext_factor));
  if (rope->yarn_ext_factor == 0.0f) {  // otherwise the magnitude follows from the factor
    float magnitude = 1.0f;
    TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_attn_factor", 1e-3, 1e3, 1.0, &magnitude));
    rope->attn_factor *= magnitude;
  }
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32.0, &rope->yarn_beta_fast));
  return reader.Float("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1.0, &rope->yarn_beta_slow);
}

absl::Status ReadRope(const GgufFile& file, const SpecReader& reader, int32_t head_dim, int32_t context,
                      RopeSpec* rope) {
  TANDEM_RETURN_IF_ERROR(reader.Int("rope.dimension_count", 2, head_dim, head_dim, &rope->dims));
  if (rope->dims % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is %d, expected an even number", reader.Key("rope.dimension_count"), rope->dims));
  }
  // A base of 1 would make yarn divide by log(1).
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.freq_base", 1.5, kMaxRopeBase, 10000.0, &rope->base));
  return ReadRopeScaling(file, reader, context, rope);
}

absl::Status ReadAttention(const SpecReader& reader, ModelSpec* spec) {
  TANDEM_RETURN_IF_ERROR(reader.Int("attention.head_count", 1, kMaxWidth, std::nullopt, &spec->heads));
  TANDEM_RETURN_IF_ERROR(reader.Int("attention.head_count_kv", 1, spec->heads, spec->heads, &spec->kv_heads));
  if (spec->heads % spec->kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is %d, which does not divide the %d heads",
                                                      reader.Key("attention.head_count_kv"), spec->kv_heads,
                                                      spec->heads));
  }
  if (!reader.Has("attention.key_length") && spec->hidden % spec->heads != 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is %d, which is no multiple of the %d heads",
                                                      reader.Key("embedding_length"), spec->hidden, spec->heads));
  }
  TANDEM_RETURN_IF_ERROR(
      reader.Int("attention.key_length", 1, kMaxHeadDim, spec->hidden / spec->heads, &spec->head_dim));
  int32_t value_length = 0;
  TANDEM_RETURN_IF_ERROR(reader.Int("attention.value_length", 1, kMaxHeadDim, spec->head_dim, &value_length));
  if (spec->head_dim % 4 != 0 || value_length != spec->head_dim || spec->head_dim > kMaxHeadDim ||
      int64_t{spec->heads} * spec->head_dim > kMaxWidth) {
    return absl::UnimplementedError(absl::StrFormat(
        "%d heads with keys of %d and values of %d elements: Tandem computes keys and values of one length, a multiple "
        "of 4 up to %d, and up to %d elements in all heads",
        spec->heads, spec->head_dim, value_length, kMaxHeadDim, kMaxWidth));
  }
  return reader.Float("attention.layer_norm_rms_epsilon", 1e-12, 1.0, std::nullopt, &spec->rms_eps);
}

uint64_t MatrixBytes(const GgufTensor& tensor) {
  return PackedGroupBytes(tensor.type, tensor.cols()) * ((tensor.rows() + kRowGroup - 1) / kRowGroup);
}

}  // namespace

absl::StatusOr<ModelSpec> ReadModelSpec(const GgufFile& file) {
  ModelSpec spec;
  if (!file.Has("general.architecture")) {
    return absl::InvalidArgumentError("general.architecture is missing: the file does not describe a model");
  }
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view architecture, file.GetString("general.architecture"));
  if (architecture != "llama") {
    return absl::UnimplementedError(
        absl::StrFormat("architecture \"%s\" is not one that Tandem computes; it does llama", architecture));
  }
  spec.architecture = std::string(architecture);
  if (file.Has("general.name")) {
    TANDEM_ASSIGN_OR_RETURN(const absl::string_view name, file.GetString("general.name"));
    spec.name = std::string(name);
  }
  const SpecReader reader(file, architecture);
  int32_t experts = 0;
  TANDEM_RETURN_IF_ERROR(reader.Int("expert_count", 0, std::numeric_limits<int32_t>::max(), 0, &experts));
  if (experts > 0) {
    return absl::UnimplementedError(
        absl::StrFormat("%s is %d: Tandem does not compute mixtures of experts, only dense models",
                        reader.Key("expert_count"), experts));
  }
  TANDEM_RETURN_IF_ERROR(reader.Int("block_count", 1, kMaxLayers, std::nullopt, &spec.num_layers));
  TANDEM_RETURN_IF_ERROR(reader.Int("embedding_length", 1, kMaxWidth, std::nullopt, &spec.hidden));
  TANDEM_RETURN_IF_ERROR(reader.Int("feed_forward_length", 1, kMaxFfn, std::nullopt, &spec.ffn));
  TANDEM_RETURN_IF_ERROR(ReadAttention(reader, &spec));
  int32_t context = 0;
  TANDEM_RETURN_IF_ERROR(reader.Int("context_length", 1, std::numeric_limits<int32_t>::max(), std::nullopt, &context));
  spec.context = std::min(context, kMaxPositions);
  TANDEM_RETURN_IF_ERROR(ReadRope(file, reader, spec.head_dim, context, &spec.rope));

  const GgufTensor* embedding = file.FindTensor(kEmbeddingName);
  if (embedding == nullptr || embedding->rows() > kMaxVocab) {
    return absl::InvalidArgumentError(
        embedding == nullptr ? absl::StrFormat("tensor %s is missing: the file is not a whole model", kEmbeddingName)
                             : absl::StrFormat("tensor %s has %d rows, expected at most %d", kEmbeddingName,
                                               embedding->rows(), kMaxVocab));
  }
  spec.vocab = static_cast<int32_t>(embedding->rows());
  spec.tied_head = file.FindTensor(kHeadName) == nullptr;
  TANDEM_RETURN_IF_ERROR(CheckTensors(spec, file));
  return spec;
}

ModelCost ComputeModelCost(const ModelSpec& spec, const GgufFile& file) {
  ModelCost cost;
  cost.layers.resize(spec.num_layers);
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    for (const LayerPart& part : LayerParts(spec)) {
      PartCost& to = cost.layers[layer];
      if (part.is_matrix) {
        to.weight_bytes += MatrixBytes(*file.FindTensor(LayerTensorName(layer, part.name)));
        to.macs_per_token += part.rows * part.cols;
      } else {
        to.weight_bytes += part.cols * sizeof(float);
      }
    }
  }
  const GgufTensor& embedding = *file.FindTensor(kEmbeddingName);
  const GgufTensor& head = spec.tied_head ? embedding : *file.FindTensor(kHeadName);
  cost.embedding.weight_bytes = embedding.bytes;
  cost.head.weight_bytes = MatrixBytes(head) + spec.hidden * sizeof(float);
  cost.head.macs_per_token = int64_t{spec.vocab} * spec.hidden;
  cost.kv_elements_per_token_layer = 2 * int64_t{spec.kv_heads} * spec.head_dim;
  return cost;
}

}  // namespace tandem::engine
