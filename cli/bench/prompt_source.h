// Tokens for prompts that stand for no particular text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::cli {

// The text of ids, with or without the spelling of control tokens.
using Detokenizer = std::function<absl::StatusOr<std::string>(const std::vector<uint32_t>& ids, bool render_special)>;

// Up to kPromptTokens ids of a vocabulary, drawn at random by `seed`, without control tokens: those have a text only
// where they are spelled out. Errors: kInvalidArgument (no vocabulary, or nothing but control tokens), those of
// `detokenize`.
absl::StatusOr<std::vector<uint32_t>> RandomPromptTokens(uint32_t vocabulary, uint64_t seed,
                                                         const Detokenizer& detokenize);

// So many that two prompts of some tokens are never alike, and few enough to be looked at in some calls.
inline constexpr uint32_t kPromptTokens = 1024;

}  // namespace tandem::cli
