#include "engine/model/model_spec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/canonical_math.h"
#include "engine/model/model_layout.h"
#include "engine/model/spec_reader.h"

namespace tandem::engine {
namespace {

// Far above any known model; they keep every size below computable in 64 bits.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxWidth = 1 << 20;  // of the hidden state, and of all heads together
constexpr int64_t kMaxFfn = 1 << 22;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxExperts = 1 << 14;
constexpr double kMaxScale = 1e6;

const GgufTensor* FindLayerTensor(const GgufFile& file, int32_t layer, absl::string_view part) {
  return file.FindTensor(LayerTensorName(layer, part));
}

// One number for all layers: the cache has rows of one length, and the attention heads of one number.
absl::Status OneForAll(const SpecReader& reader, absl::string_view name, int64_t max, std::optional<int64_t> fallback,
                       int32_t layers, int32_t* out) {
  std::vector<int32_t> values;
  TANDEM_RETURN_IF_ERROR(reader.Ints(name, 1, max, fallback, layers, &values));
  *out = values.front();
  for (int32_t value : values) {
    if (value != *out) {
      return absl::UnimplementedError(
          absl::StrFormat("%s is %d in one layer and %d in another: Tandem computes one number for all layers",
                          reader.Key(name), *out, value));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHeads(const ModelSpec& spec) {
  if (spec.head_dim % 4 == 0 && spec.value_dim % 4 == 0 && spec.kv_rank % 4 == 0 &&
      int64_t{spec.heads} * std::max({spec.head_dim, spec.value_dim, spec.kv_rank}) <= 8 * kMaxWidth) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      absl::StrFormat("%d heads with keys of %d and values of %d elements: Tandem computes lengths that are multiples "
                      "of 4 up to %d, and "
                      "up to %d elements in all heads",
                      spec.heads, spec.head_dim, spec.value_dim, kMaxHeadDim, 8 * kMaxWidth));
}

absl::Status ReadHeads(const SpecReader& reader, ModelSpec* spec) {
  const int32_t layers = spec->num_layers;
  TANDEM_RETURN_IF_ERROR(OneForAll(reader, "attention.head_count", kMaxWidth, std::nullopt, layers, &spec->heads));
  TANDEM_RETURN_IF_ERROR(
      OneForAll(reader, "attention.head_count_kv", spec->heads, spec->heads, layers, &spec->kv_heads));
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
  return reader.Int("attention.value_length", 1, kMaxHeadDim, spec->head_dim, &spec->value_dim);
}

// Compressed attention: newer files give the lengths of the cache's rows as key_length and value_length, and those of a
// head's keys and values apart.
absl::Status ReadCompression(const SpecReader& reader, ModelSpec* spec) {
  TANDEM_RETURN_IF_ERROR(reader.Int("attention.kv_lora_rank", 1, kMaxWidth, std::nullopt, &spec->kv_rank));
  TANDEM_RETURN_IF_ERROR(reader.Int("attention.q_lora_rank", 0, kMaxWidth, 0, &spec->q_rank));
  TANDEM_RETURN_IF_ERROR(reader.Int("attention.key_length_mla", 1, kMaxHeadDim, spec->head_dim, &spec->head_dim));
  return reader.Int("attention.value_length_mla", 1, kMaxHeadDim, spec->value_dim, &spec->value_dim);
}

absl::Status ReadAttention(const SpecReader& reader, int32_t context, ModelSpec* spec) {
  const Architecture& row = *spec->row;
  TANDEM_RETURN_IF_ERROR(ReadHeads(reader, spec));
  if (row.compressed) TANDEM_RETURN_IF_ERROR(ReadCompression(reader, spec));
  TANDEM_RETURN_IF_ERROR(CheckHeads(*spec));
  TANDEM_RETURN_IF_ERROR(ReadRope(reader, context, spec));
  spec->kv = {spec->kv_heads, spec->head_dim, spec->value_dim};
  float scale = 1.0f / std::sqrt(static_cast<float>(spec->head_dim));
  if (spec->num_layers == row.width_scaled_layers) {
    scale = 1.0f / std::sqrt(static_cast<float>(spec->hidden / spec->heads));
  }
  if (row.compressed) {
    if (spec->rope.dims >= spec->head_dim) {
      return absl::InvalidArgumentError(absl::StrFormat("%s is %d, expected less than the %d elements of a key",
                                                        reader.Key("rope.dimension_count"), spec->rope.dims,
                                                        spec->head_dim));
    }
    spec->kv_heads = 1;
    spec->kv = {1, spec->kv_rank + spec->rope.dims, 0};
    // DeepSeek's yarn scales the scores instead of the rotated elements.
    float multiplier = 0.0f;
    TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_log_multiplier", 0.0, 10.0, 0.0, &multiplier));
    spec->rope.yarn_log_multiplier = 0.0f;
    const double grown =
        1.0 + multiplier * (spec->rope.scaling == RopeScaling::kYarn ? CanonicalLog(spec->rope.factor) : 0.0);
    scale = static_cast<float>(scale * grown * grown);
  }
  TANDEM_RETURN_IF_ERROR(reader.Float("attention.scale", 0.0, kMaxScale, scale, &spec->attention_scale));
  if (spec->attention_scale == 0.0f) spec->attention_scale = scale;  // 0 is written for "as usual"
  TANDEM_RETURN_IF_ERROR(
      reader.Float("attn_logit_softcapping", 0.0, kMaxScale, row.default_attention_cap, &spec->attention_cap));
  const char* epsilon =
      row.norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  return reader.Float(epsilon, 1e-12, 1.0, std::nullopt, &spec->norm_eps);
}

absl::Status ReadScales(const SpecReader& reader, ModelSpec* spec) {
  const Architecture& row = *spec->row;
  TANDEM_RETURN_IF_ERROR(
      reader.Float("final_logit_softcapping", 0.0, kMaxScale, row.default_logit_cap, &spec->logit_cap));
  const double width_scale = row.embedding_times_sqrt_width ? std::sqrt(static_cast<float>(spec->hidden)) : 1.0f;
  TANDEM_RETURN_IF_ERROR(reader.Float("embedding_scale", -kMaxScale, kMaxScale, width_scale, &spec->embedding_scale));
  TANDEM_RETURN_IF_ERROR(reader.Float("residual_scale", -kMaxScale, kMaxScale, 1.0, &spec->residual_scale));
  if (row.logit_scale != LogitScale::kNone) {
    TANDEM_RETURN_IF_ERROR(reader.Float("logit_scale", -kMaxScale, kMaxScale, 1.0, &spec->logit_scale));
  }
  // Some converters write 0 for "not scaled".
  for (float* scale : {&spec->embedding_scale, &spec->residual_scale, &spec->logit_scale}) {
    if (*scale == 0.0f) *scale = 1.0f;
  }
  if (row.logit_scale == LogitScale::kDivide) spec->logit_scale = 1.0f / spec->logit_scale;
  return absl::OkStatus();
}

absl::Status ReadGating(const SpecReader& reader, ExpertSpec* experts) {
  int32_t gating = 0;  // 0: as the architecture does
  TANDEM_RETURN_IF_ERROR(reader.Int("expert_gating_func", 0, 3, 0, &gating));
  constexpr Gating kGatings[] = {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxOfChosen};
  if (gating > 0) experts->gating = kGatings[gating - 1];
  TANDEM_RETURN_IF_ERROR(reader.Bool("expert_weights_norm", experts->normalise, &experts->normalise));
  TANDEM_RETURN_IF_ERROR(reader.Float("expert_weights_scale", 0.0, kMaxScale, 1.0, &experts->scale));
  if (experts->scale == 0.0f) experts->scale = 1.0f;  // 0 is written for "not scaled"
  TANDEM_RETURN_IF_ERROR(reader.Int("expert_group_count", 0, experts->count, 1, &experts->groups));
  experts->groups = std::max(1, experts->groups);
  TANDEM_RETURN_IF_ERROR(
      reader.Int("expert_group_used_count", 0, experts->groups, experts->groups, &experts->groups_used));
  if (experts->groups_used == 0) experts->groups_used = experts->groups;
  if (experts->count % experts->groups != 0 ||
      experts->count / experts->groups * experts->groups_used < experts->used) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is %d, of which %d are used: %d of %d experts cannot come from them", reader.Key("expert_group_count"),
        experts->groups, experts->groups_used, experts->used, experts->count));
  }
  return absl::OkStatus();
}

// `layer` is one with experts. Widths that older files leave out are the tensors' own.
absl::Status ReadExpertWidths(const SpecReader& reader, int32_t layer, ExpertSpec* experts) {
  const GgufFile& file = reader.file();
  const GgufTensor* down = FindLayerTensor(file, layer, "ffn_down_exps");
  if (down == nullptr) down = FindLayerTensor(file, layer, "ffn_down.0");
  std::optional<int64_t> width;
  if (down != nullptr && down->cols() <= kMaxFfn) width = down->cols();
  TANDEM_RETURN_IF_ERROR(reader.Int("expert_feed_forward_length", 0, kMaxFfn, width, &experts->ffn));
  if (experts->ffn == 0) experts->ffn = static_cast<int32_t>(width.value_or(0));
  const GgufTensor* shared = FindLayerTensor(file, layer, "ffn_down_shexp");
  if (shared != nullptr && shared->cols() <= kMaxFfn) experts->shared_ffn = static_cast<int32_t>(shared->cols());
  if (experts->ffn > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is 0", reader.Key("expert_feed_forward_length")));
}

absl::Status ReadExperts(const SpecReader& reader, ModelSpec* spec) {
  ExpertSpec& experts = spec->experts;
  TANDEM_RETURN_IF_ERROR(reader.Int("expert_count", 0, kMaxExperts, 0, &experts.count));
  if (experts.count == 0) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(reader.Int("expert_used_count", 1, experts.count, std::nullopt, &experts.used));
  int32_t first = 0;
  while (first < spec->num_layers && FindLayerTensor(reader.file(), first, "ffn_gate_inp") == nullptr) ++first;
  if (first == spec->num_layers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is %d, but no layer has experts", reader.Key("expert_count"), experts.count));
  }
  experts.gating = spec->row->gating;
  experts.normalise = spec->row->normalise_experts;
  TANDEM_RETURN_IF_ERROR(ReadExpertWidths(reader, first, &experts));
  return ReadGating(reader, &experts);
}

bool Rotates(const Architecture& row, int32_t layer, bool windowed, bool by_key) {
  switch (row.rope_layers) {
    case RopeLayers::kAll:
      return true;
    case RopeLayers::kWindowed:
      return windowed;
    case RopeLayers::kByKey:
      return by_key;
    case RopeLayers::kThreeOfFour:
      return (layer + 1) % 4 != 0;
  }
  return true;
}

absl::Status ReadLayers(const SpecReader& reader, ModelSpec* spec) {
  const Architecture& row = *spec->row;
  const bool mixed = spec->experts.count > 0;
  std::vector<int32_t> ffn;
  TANDEM_RETURN_IF_ERROR(reader.Ints("feed_forward_length", mixed ? 0 : 1, kMaxFfn,
                                     mixed ? std::optional<int64_t>(0) : std::nullopt, spec->num_layers, &ffn));
  int32_t window = 0;
  if (row.window_period > 0) {
    TANDEM_RETURN_IF_ERROR(
        reader.Int("attention.sliding_window", 0, std::numeric_limits<int32_t>::max(), row.default_window, &window));
  }
  bool rotates_by_key = true;
  if (row.rope_layers == RopeLayers::kByKey) {
    TANDEM_RETURN_IF_ERROR(reader.Bool("rope.scaling.finetuned", true, &rotates_by_key));
  }
  spec->layers.resize(spec->num_layers);
  for (int32_t i = 0; i < spec->num_layers; ++i) {
    LayerSpec& layer = spec->layers[i];
    const bool windowed = window > 0 && i % row.window_period < row.window_period - 1;
    layer.window = windowed ? window : 0;
    layer.rotates = Rotates(row, i, windowed, rotates_by_key);
    layer.ffn = mixed && FindLayerTensor(reader.file(), i, "ffn_gate_inp") != nullptr ? 0 : ffn[i];
    if (layer.ffn == 0 && !mixed) {
      return absl::InvalidArgumentError(absl::StrFormat("%s is 0 for layer %d", reader.Key("feed_forward_length"), i));
    }
    spec->ffn = std::max(spec->ffn, layer.ffn);
    spec->two_ropes |= windowed && spec->windowed_rope != spec->rope;
  }
  if (spec->ffn == 0) spec->ffn = spec->experts.ffn;
  return absl::OkStatus();
}

absl::Status ReadArchitecture(const GgufFile& file, ModelSpec* spec) {
  if (!file.Has("general.architecture")) {
    return absl::InvalidArgumentError("general.architecture is missing: the file does not describe a model");
  }
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view architecture, file.GetString("general.architecture"));
  spec->row = FindArchitecture(architecture);
  if (spec->row == nullptr) {
    return absl::UnimplementedError(absl::StrFormat(
        "architecture \"%s\" is not one that Tandem computes; the one with the nearest name that it does is \"%s\"",
        architecture, NearestArchitecture(architecture)));
  }
  spec->architecture = std::string(architecture);
  if (!file.Has("general.name")) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const absl::string_view name, file.GetString("general.name"));
  spec->name = std::string(name);
  return absl::OkStatus();
}

absl::Status ReadLayerCount(const SpecReader& reader, ModelSpec* spec) {
  TANDEM_RETURN_IF_ERROR(reader.Int("block_count", 1, kMaxLayers, std::nullopt, &spec->num_layers));
  TANDEM_RETURN_IF_ERROR(reader.Int("nextn_predict_layers", 0, spec->num_layers - 1, 0, &spec->ignored_layers));
  spec->num_layers -= spec->ignored_layers;
  return absl::OkStatus();
}

absl::Status ReadVocabulary(const GgufFile& file, ModelSpec* spec) {
  const GgufTensor* embedding = file.FindTensor(kEmbeddingName);
  if (embedding == nullptr || embedding->rows() > kMaxVocab) {
    return absl::InvalidArgumentError(
        embedding == nullptr ? absl::StrFormat("tensor %s is missing: the file is not a whole model", kEmbeddingName)
                             : absl::StrFormat("tensor %s has %d rows, expected at most %d", kEmbeddingName,
                                               embedding->rows(), kMaxVocab));
  }
  spec->vocab = static_cast<int32_t>(embedding->rows());
  spec->tied_head = file.FindTensor(kHeadName) == nullptr;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelSpec> ReadModelSpec(const GgufFile& file) {
  ModelSpec spec;
  TANDEM_RETURN_IF_ERROR(ReadArchitecture(file, &spec));
  const SpecReader reader(file, spec.architecture);
  TANDEM_RETURN_IF_ERROR(ReadLayerCount(reader, &spec));
  TANDEM_RETURN_IF_ERROR(reader.Int("embedding_length", 1, kMaxWidth, std::nullopt, &spec.hidden));
  int32_t context = 0;
  TANDEM_RETURN_IF_ERROR(reader.Int("context_length", 1, std::numeric_limits<int32_t>::max(), std::nullopt, &context));
  spec.context = std::min(context, kMaxPositions);
  TANDEM_RETURN_IF_ERROR(ReadAttention(reader, context, &spec));
  TANDEM_RETURN_IF_ERROR(ReadScales(reader, &spec));
  TANDEM_RETURN_IF_ERROR(ReadExperts(reader, &spec));
  TANDEM_RETURN_IF_ERROR(ReadLayers(reader, &spec));
  spec.parallel =
      spec.row->residual == Residual::kParallel || (spec.row->residual == Residual::kParallelWithoutFfnNorm &&
                                                    FindLayerTensor(file, 0, spec.row->ffn_norm) == nullptr);
  TANDEM_RETURN_IF_ERROR(ReadVocabulary(file, &spec));
  TANDEM_RETURN_IF_ERROR(CheckTensors(spec, file));
  return spec;
}

}  // namespace tandem::engine
