#include <limits>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/model/spec_reader.h"

namespace tandem::engine {
namespace {

constexpr double kMaxRopeBase = 4e8;  // bound of CanonicalPow: |log(base)| <= 20
constexpr char kFactorsName[] = "rope_freqs.weight";
constexpr char kLongFactorsName[] = "rope_factors_long.weight";
constexpr char kShortFactorsName[] = "rope_factors_short.weight";

absl::Status ReadRopeScaling(const SpecReader& reader, int32_t context, RopeSpec* rope) {
  const char* factor_key = reader.Has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  absl::string_view type = reader.Has(factor_key) ? "linear" : "none";  // files older than the type key
  if (reader.Has("rope.scaling.type")) {
    TANDEM_ASSIGN_OR_RETURN(type, reader.file().GetString(reader.Key("rope.scaling.type")));
  }
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.attn_factor", 1e-3, 1e3, 1.0, &rope->attn_factor));
  TANDEM_RETURN_IF_ERROR(reader.Int("rope.scaling.original_context_length", 1, std::numeric_limits<int32_t>::max(),
                                    context, &rope->original_context));
  // LongRoPE (Ding et al., 2024) is all in the factors that divide the frequencies.
  if (type == "none" || type == "longrope") return absl::OkStatus();
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
        absl::StrFormat("%s is \"%s\", which Tandem does not compute; it does none, linear, yarn and longrope",
                        reader.Key("rope.scaling.type"), type));
  }
  rope->scaling = RopeScaling::kYarn;
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_ext_factor", 0.0, 1.0, 1.0, &rope->yarn_ext_factor));
  if (rope->yarn_ext_factor == 0.0f) {  // otherwise the magnitude follows from the factor
    float magnitude = 1.0f;
    TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_attn_factor", 1e-3, 1e3, 1.0, &magnitude));
    rope->attn_factor *= magnitude;
  }
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32.0, &rope->yarn_beta_fast));
  return reader.Float("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1.0, &rope->yarn_beta_slow);
}

// The tensor of factors that applies to the context the model is used with, which is the one that it was made for.
std::string ChooseFactors(const GgufFile& file, const RopeSpec& rope, int32_t context) {
  const char* by_length = context > rope.original_context ? kLongFactorsName : kShortFactorsName;
  for (const char* name : {kFactorsName, by_length}) {
    if (file.FindTensor(name) != nullptr) return name;
  }
  return "";
}

}  // namespace

absl::Status ReadRope(const SpecReader& reader, int32_t context, ModelSpec* spec) {
  RopeSpec& rope = spec->rope;
  TANDEM_RETURN_IF_ERROR(reader.Int("rope.dimension_count", 2, spec->head_dim, spec->head_dim, &rope.dims));
  if (rope.dims % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is %d, expected an even number", reader.Key("rope.dimension_count"), rope.dims));
  }
  // A base of 1 would make yarn divide by log(1).
  TANDEM_RETURN_IF_ERROR(reader.Float("rope.freq_base", 1.5, kMaxRopeBase, 10000.0, &rope.base));
  TANDEM_RETURN_IF_ERROR(ReadRopeScaling(reader, context, &rope));
  spec->rope_factors = ChooseFactors(reader.file(), rope, context);

  const Architecture& row = *spec->row;
  spec->windowed_rope = rope;
  if (row.windowed_rope_unscaled) spec->windowed_rope = {.base = rope.base, .dims = rope.dims};
  if (row.windowed_rope_base > 0) spec->windowed_rope.base = row.windowed_rope_base;
  return reader.Float("rope.freq_base_swa", 1.5, kMaxRopeBase, spec->windowed_rope.base, &spec->windowed_rope.base);
}

}  // namespace tandem::engine
