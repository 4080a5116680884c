#include "engine/conversion/file_type.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace tandem::engine {
namespace {

using enum TensorType;

constexpr std::array kFileTypes = {
    FileType{"F32", 0, kF32},
    FileType{"F16", 1, kF16},
    FileType{"Q4_0", 2, kQ4_0},
    FileType{"Q4_1", 3, kQ4_1},
    FileType{"Q8_0", 7, kQ8_0},
    FileType{"Q5_0", 8, kQ5_0},
    FileType{"Q5_1", 9, kQ5_1},
    FileType{"Q2_K", 10, kQ2_K},
    FileType{"Q3_K_S", 11, kQ3_K},
    FileType{"Q3_K_M", 12, kQ3_K},
    FileType{"Q3_K_L", 13, kQ3_K},
    FileType{"Q4_K_S", 14, kQ4_K},
    FileType{"Q4_K_M", 15, kQ4_K},
    FileType{"Q5_K_S", 16, kQ5_K},
    FileType{"Q5_K_M", 17, kQ5_K},
    FileType{"Q6_K", 18, kQ6_K},
    FileType{"IQ2_XXS", 19, kIQ2_XXS, true},
    FileType{"IQ2_XS", 20, kIQ2_XS, true},
    FileType{"Q2_K_S", 21, kQ2_K, true},
    FileType{"IQ3_XS", 22, kIQ3_S},
    FileType{"IQ3_XXS", 23, kIQ3_XXS},
    FileType{"IQ1_S", 24, kIQ1_S, true},
    FileType{"IQ4_NL", 25, kIQ4_NL},
    FileType{"IQ3_S", 26, kIQ3_S},
    FileType{"IQ3_M", 27, kIQ3_S},
    FileType{"IQ2_S", 28, kIQ2_XS, true},
    FileType{"IQ2_M", 29, kIQ2_S, true},
    FileType{"IQ4_XS", 30, kIQ4_XS},
    FileType{"IQ1_M", 31, kIQ1_M, true},
    FileType{"BF16", 32, kBF16},
    FileType{"TQ1_0", 36, kTQ1_0},
    FileType{"TQ2_0", 37, kTQ2_0},
    FileType{"MXFP4_MOE", 38, kMXFP4},
};

constexpr std::array<std::pair<absl::string_view, absl::string_view>, 4> kAliases = {
    {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}, {"MXFP4", "MXFP4_MOE"}}};

enum class Role { kEmbedding, kHead, kQuery, kKey, kValue, kAttentionOutput, kGate, kUp, kDown, kOther };

Role RoleOf(absl::string_view name) {
  if (name == "output.weight") return Role::kHead;
  if (name == "token_embd.weight") return Role::kEmbedding;
  constexpr std::pair<absl::string_view, Role> kRoles[] = {{"attn_qkv.weight", Role::kValue},
                                                           {"attn_kv_b.weight", Role::kValue},
                                                           {"attn_v.weight", Role::kValue},
                                                           {"attn_k.weight", Role::kKey},
                                                           {"attn_q.weight", Role::kQuery},
                                                           {"attn_output.weight", Role::kAttentionOutput},
                                                           {"ffn_up", Role::kUp},
                                                           {"ffn_gate", Role::kGate},
                                                           {"ffn_down", Role::kDown}};
  for (const auto& [part, role] : kRoles) {
    if (absl::StrContains(name, part)) return role;
  }
  return Role::kOther;
}

// Layer of "blk.7.attn_v.weight"; 0 for a tensor of no layer.
int32_t LayerOf(absl::string_view name) {
  int32_t layer = 0;
  if (!absl::StartsWith(name, "blk.") || !absl::SimpleAtoi(name.substr(4, name.find('.', 4) - 4), &layer)) return 0;
  return layer;
}

// One tensor in one file: the rules, a method for each role.
class Rules {
 public:
  Rules(const FileType& type, const MixModel& model, const GgufTensor& tensor)
      : type_(type), model_(model), tensor_(tensor), layer_(LayerOf(tensor.name)) {}

  TensorType Choose() const {
    const Role role = RoleOf(tensor_.name);
    if (role == Role::kHead || (role == Role::kEmbedding && model_.tied_head)) return Head();
    if (Is("MXFP4_MOE")) return tensor_.dims.size() > 2 && tensor_.dims[2] > 1 ? kMXFP4 : kQ8_0;
    if (role == Role::kEmbedding) return Embedding();
    if (IsTwoBitCodebook()) return TwoBitCodebook(role);
    switch (role) {
      case Role::kValue:
        return Value();
      case Role::kKey:
        return model_.experts == 8 ? kQ8_0 : QueryOrKey();
      case Role::kQuery:
        return QueryOrKey();
      case Role::kDown:
        return Down();
      case Role::kAttentionOutput:
        return AttentionOutput();
      case Role::kGate:
      case Role::kUp:
        return Is("IQ3_XS") && !InFirst(8) && layer_ < 7 * model_.layers / 8 ? kIQ3_XXS : type_.base;
      default:
        return type_.base;
    }
  }

 private:
  bool Is(absl::string_view name) const { return type_.name == name; }
  template <typename... Names>
  bool IsAnyOf(Names... names) const {
    return (Is(names) || ...);
  }
  bool IsTwoBitCodebook() const { return IsAnyOf("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M"); }
  bool falcon() const { return model_.architecture == "falcon"; }
  // In the first of `parts` equal parts of the layers.
  bool InFirst(int parts) const { return layer_ < model_.layers / parts; }
  // First and last eighth, and every third layer between them.
  bool UsesMoreBits() const {
    const int32_t eighth = model_.layers / 8;
    return layer_ < eighth || layer_ >= 7 * model_.layers / 8 || (layer_ - eighth) % 3 == 2;
  }

  TensorType Head() const {
    if (Is("MXFP4_MOE") || falcon() || FittingType(type_.base, tensor_.cols()) != type_.base) return kQ8_0;
    if (IsTwoBitCodebook() || Is("IQ3_XXS")) return kQ5_K;
    return type_.base == kQ8_0 ? kQ8_0 : kQ6_K;
  }

  TensorType Embedding() const {
    if (IsAnyOf("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M")) return kQ2_K;
    if (IsAnyOf("IQ2_S", "IQ2_M", "IQ3_XXS")) return kIQ3_S;
    if (IsAnyOf("TQ1_0", "TQ2_0")) return kQ4_K;
    return type_.base;
  }

  TensorType TwoBitCodebook(Role role) const {
    const bool better = IsAnyOf("IQ2_S", "IQ2_M");
    if (role == Role::kValue) {
      if (model_.heads_per_kv >= 4 || model_.experts >= 4) return kQ4_K;
      return better ? kIQ3_S : kQ2_K;
    }
    if (role == Role::kKey && model_.experts == 8) return kQ4_K;
    if (role == Role::kDown && InFirst(8)) return better ? kIQ3_S : kQ2_K;
    if (role == Role::kAttentionOutput) {
      if (model_.experts == 8) return kQ5_K;
      if (IsAnyOf("IQ1_S", "IQ1_M")) return kIQ2_XXS;
      if (better) return kIQ3_S;
    }
    return type_.base;
  }

  TensorType Value() const {
    if (model_.experts == 8) return kQ8_0;
    const TensorType chosen = ValueOfDense();
    // Models of 80 layers with grouped queries have small value matrices: more bits cost next to nothing there.
    const bool is_70b = model_.layers == 80 && model_.heads_per_kv > 1;
    return is_70b && (chosen == kQ3_K || chosen == kQ4_K) ? kQ5_K : chosen;
  }

  TensorType ValueOfDense() const {
    const bool grouped = model_.heads_per_kv >= 4;
    if (Is("Q2_K")) return grouped ? kQ4_K : kQ3_K;
    if (Is("IQ3_XXS")) return grouped ? kQ4_K : model_.has_importance ? kIQ3_XXS : kIQ3_S;
    if (IsAnyOf("Q2_K_S", "IQ3_XS", "IQ3_S") && grouped) return kQ4_K;
    if (Is("IQ3_M")) return kQ4_K;
    if (Is("Q3_K_M")) return layer_ < 2 ? kQ5_K : kQ4_K;
    if (Is("Q3_K_L")) return kQ5_K;
    if (IsAnyOf("IQ4_NL", "IQ4_XS") && grouped) return kQ5_K;
    if (IsAnyOf("Q4_K_M", "Q5_K_M") && UsesMoreBits()) return kQ6_K;
    if (Is("Q4_K_S") && layer_ < 4) return kQ5_K;
    return type_.base;
  }

  TensorType QueryOrKey() const {
    if (Is("IQ3_XS")) return kIQ3_XXS;
    if (Is("IQ3_XXS")) return kIQ2_S;
    return type_.base;
  }

  TensorType Down() const {
    if (Is("Q2_K")) return kQ3_K;
    if (Is("Q2_K_S")) return InFirst(8) ? kQ4_K : type_.base;
    if (Is("IQ3_XXS") && !model_.has_importance) return InFirst(8) ? kQ4_K : kQ3_K;
    if (Is("Q3_K_M")) return InFirst(16) ? kQ5_K : !falcon() || UsesMoreBits() ? kQ4_K : kQ3_K;
    if (Is("Q3_K_L")) return falcon() ? kQ4_K : kQ5_K;
    if (Is("IQ3_M") && (InFirst(8) || (model_.experts == 8 && UsesMoreBits()))) return kQ4_K;
    if (Is("Q4_K_M") && falcon()) return InFirst(16) ? kQ6_K : UsesMoreBits() ? kQ5_K : kQ4_K;
    if (IsAnyOf("Q4_K_M", "Q5_K_M") && UsesMoreBits()) return kQ6_K;
    if (IsAnyOf("IQ4_NL", "IQ4_XS") && InFirst(8) && !model_.has_importance) return kQ5_K;
    if (Is("Q4_K_S") && InFirst(8) && !falcon()) return kQ5_K;
    if (Is("Q4_0") && InFirst(8) && model_.has_importance) return kQ4_1;
    if (Is("Q5_0") && InFirst(8) && model_.has_importance) return kQ5_1;
    return type_.base;
  }

  TensorType AttentionOutput() const {
    if (falcon()) return Is("Q3_K_L") ? kQ4_K : type_.base;
    if (model_.experts == 8) {
      const bool raised = IsAnyOf("Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M",
                                  "IQ3_S", "IQ3_M", "IQ4_XS");
      return raised ? kQ5_K : type_.base;
    }
    if (Is("Q2_K")) return kQ3_K;
    if (Is("IQ3_XXS")) return kIQ3_S;
    if (IsAnyOf("Q3_K_M", "IQ3_M")) return kQ4_K;
    if (Is("Q3_K_L")) return kQ5_K;
    return type_.base;
  }

  const FileType& type_;
  const MixModel& model_;
  const GgufTensor& tensor_;
  const int32_t layer_;
};

// Of formats with blocks of 256: the nearest one with blocks of 32.
TensorType SmallBlockType(TensorType type) {
  switch (type) {
    case kIQ1_S:
    case kIQ1_M:
    case kIQ2_XXS:
    case kIQ2_XS:
    case kIQ2_S:
    case kIQ3_XXS:
    case kIQ3_S:
    case kIQ4_XS:
      return kIQ4_NL;
    case kQ2_K:
    case kQ3_K:
    case kTQ1_0:
    case kTQ2_0:
      return kQ4_0;
    case kQ4_K:
      return kQ5_0;
    case kQ5_K:
      return kQ5_1;
    case kQ6_K:
      return kQ8_0;
    default:
      return kF16;
  }
}

}  // namespace

std::span<const FileType> AllFileTypes() { return kFileTypes; }

const FileType* FindFileType(absl::string_view name) {
  for (const auto& [alias, full] : kAliases) {
    if (absl::EqualsIgnoreCase(alias, name)) name = full;
  }
  const auto it = std::find_if(kFileTypes.begin(), kFileTypes.end(),
                               [&](const FileType& type) { return absl::EqualsIgnoreCase(type.name, name); });
  return it == kFileTypes.end() ? nullptr : &*it;
}

bool IsQuantized(const GgufTensor& tensor) {
  const size_t dims = std::count_if(tensor.dims.begin() + 1, tensor.dims.end(), [](uint64_t dim) { return dim > 1; });
  if (dims == 0 || !absl::EndsWith(tensor.name, "weight")) return false;
  for (const absl::string_view part : {"_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d", "shortconv.conv.weight",
                                       "position_embd", "token_types", "attn_rel_b.weight"}) {
    if (absl::StrContains(tensor.name, part)) return false;
  }
  const BlockFormat* format = FindBlockFormat(tensor.type);
  return format != nullptr && format->computable();
}

TensorType FittingType(TensorType type, uint64_t cols) {
  const auto fits = [cols](TensorType t) { return cols % FindBlockFormat(t)->block_elements == 0; };
  if (fits(type)) return type;
  const TensorType small = SmallBlockType(type);
  return fits(small) ? small : kF16;
}

TensorType MixedType(const FileType& type, const MixModel& model, const GgufTensor& tensor) {
  if (FindBlockFormat(type.base)->block_elements == 1) return type.base;
  return FittingType(Rules(type, model, tensor).Choose(), tensor.cols());
}

}  // namespace tandem::engine
