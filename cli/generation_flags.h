// Sampling and limits as flags, shared by `generate` and `chat`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::cli {

struct GenerationFlags {
  float temperature = 0.0f;
  uint32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float typical_p = 1.0f;
  float top_n_sigma = 0.0f;
  float xtc_probability = 0.0f;
  float xtc_threshold = 0.1f;
  uint32_t mirostat = 0;
  float mirostat_tau = 5.0f;
  float mirostat_eta = 0.1f;
  float dry_multiplier = 0.0f;
  float dry_base = 1.75f;
  uint32_t dry_allowed_length = 2;
  uint32_t dry_window = 4096;
  std::vector<std::string> dry_breakers;  // empty: the default ones
  std::string filters;                    // names separated by commas; empty: the default order
  std::vector<std::string> bans;          // texts of tokens
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint32_t penalty_window = 64;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
  std::string grammar, json_schema;     // a file, or the text itself
  std::optional<uint32_t> max_tokens;
  std::string at_context_end = "stop";  // or "shift"
  uint32_t keep = 0;
  std::vector<std::string> stop;
  bool ignore_end_of_turn = false;
  std::vector<std::string> lora;  // NAME[=SCALE]
};
void AddGenerationFlags(CLI::App& command, GenerationFlags* flags);
// Fills sampling, dry, banned_text, grammar or json_schema, max_tokens, at_context_end, keep, stop, ignore_end_of_turn
// and lora of `request`. Errors: kInvalidArgument (a --logit-bias that is not ID=BIAS, a name in --filters that is
// none, a --lora whose scale is no number).
absl::Status ApplyGenerationFlags(const GenerationFlags& flags, v1::GenerateRequest* request);

}  // namespace tandem::cli
