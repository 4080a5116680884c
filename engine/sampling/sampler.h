// Logits to token. Stateless: everything a draw depends on comes with the call, so a replay or a failover draws the
// same token.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::engine {

struct SamplingParams {
  float temperature = 0.0f;  // 0..100; 0: greedy (the largest logit; the lowest id among equals)
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // above 0 to 1; 1: off
  float min_p = 0.0f;        // 0..1; 0: off
  float repetition_penalty =
      1.0f;                        // 0.01..100; positive logits of recent tokens are divided by it, negative multiplied
  float presence_penalty = 0.0f;   // -100..100; subtracted once from every recent token
  float frequency_penalty = 0.0f;  // -100..100; subtracted once per occurrence
  int32_t penalty_window = 64;     // recent tokens that the penalties see; 0 none
  uint64_t seed = 0;
  // Token and what is added to its logit, -1e6..1e6, or -infinity to ban it. At most kMaxLogitBias entries; entries of
  // one token add up.
  std::vector<std::pair<int32_t, float>> logit_bias;
  int32_t top_logprobs = -1;  // -1: no log-probabilities; 0: the chosen token's; n: and the n most probable

  bool needs_history() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }
};

inline constexpr int32_t kMaxTopLogprobs = 256;  // bounds the size of an answer's chunk
inline constexpr int32_t kMaxLogitBias = 4096;   // bounds the size of a step frame

// Errors: kInvalidArgument naming the field, its value and the valid range (NaN included). `vocab_size` bounds token
// ids.
absl::Status ValidateSampling(const SamplingParams& params, int32_t vocab_size);

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural logarithm, of the model's distribution before any filter (after bias and penalties nothing
                  // is reported)
};

struct SampledToken {
  int32_t token = -1;
  float logprob = 0.0f;           // only with top_logprobs >= 0
  std::vector<TokenLogprob> top;  // most probable first, the lower id first among equals
};

// Draws one token. Order: logit bias, penalties, then greedy or: temperature, top-k, top-p, min-p, draw. top-p keeps
// the smallest set of most probable tokens (the lower id first among equals) whose share of what top-k left reaches it,
// and always one; min-p keeps tokens of at least min_p times the largest probability. `recent`: the last tokens of the
// sequence (prompt and answer), oldest first. `position` is the index in the sequence that the drawn token will have:
// the random number is a counter-based function of (seed, position). Uses CanonicalExp, so equal logits give equal
// tokens on every machine. `params` must have passed ValidateSampling for this vocabulary. Cost: O(vocabulary), plus a
// sort of what the filters keep.
// Errors: kInternal (a logit is NaN or +infinity, or none is finite: the model's output is broken); kInvalidArgument
// (logit_bias bans every token).
absl::StatusOr<SampledToken> Sample(std::span<const float> logits, const SamplingParams& params,
                                    std::span<const int32_t> recent, uint64_t position);

// 32 random bits of Philox-4x32-10 for (seed, position); exposed for tests.
uint32_t CounterRandom(uint64_t seed, uint64_t position);

}  // namespace tandem::engine
