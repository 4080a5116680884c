// Logits to token. Stateless: everything a draw depends on comes with the call, so a replay or a failover draws the
// same token.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// The steps between logits and draw whose order may be chosen; the numbers are those of v1.Filter, less one.
enum class Filter : uint8_t {
  kPenalties,    // repetition, presence and frequency
  kDry,          // DrawState::dry
  kTemperature,  // logits divided by it
  kTopNSigma,
  kTopK,
  kTypicalP,
  kTopP,
  kMinP,
  kXtc,
};
inline constexpr int kNumFilters = 9;
// In the order that holds where none is chosen: as listed above.
absl::string_view FilterName(Filter filter);  // "top_n_sigma"

struct SamplingParams {
  float temperature = 0.0f;      // 0..100; 0: greedy (the largest logit; the lowest id among equals)
  int32_t top_k = 0;             // 0: off
  float top_p = 1.0f;            // above 0 to 1; 1: off
  float min_p = 0.0f;            // 0..1; 0: off
  float typical_p = 1.0f;        // above 0 to 1; 1: off
  float top_n_sigma = 0.0f;      // 0..100; 0: off
  float xtc_probability = 0.0f;  // 0..1; 0: off
  float xtc_threshold = 0.1f;    // above 0 to 0.5
  float repetition_penalty =
      1.0f;                        // 0.01..100; positive logits of recent tokens are divided by it, negative multiplied
  float presence_penalty = 0.0f;   // -100..100; subtracted once from every recent token
  float frequency_penalty = 0.0f;  // -100..100; subtracted once per occurrence
  int32_t penalty_window = 64;     // recent tokens that the penalties see; 0 none
  int32_t mirostat = 0;            // 0: off; 1 or 2: the version. Needs a temperature above 0
  float mirostat_tau = 5.0f;       // above 0 to 20 bits: the surprise aimed at
  float mirostat_eta = 0.1f;       // above 0 to 1: how fast mu follows
  // Each at most once; what is not named is not applied, so whatever is switched on must be named. Empty: all, in the
  // order of the enum.
  std::vector<Filter> filters;
  uint64_t seed = 0;
  // Token and what is added to its logit, -1e6..1e6, or -infinity to ban it: a banned token is never drawn. At most
  // kMaxLogitBias entries; entries of one token add up.
  std::vector<std::pair<int32_t, float>> logit_bias;
  int32_t top_logprobs = -1;  // -1: no log-probabilities; 0: the chosen token's; n: and the n most probable

  bool needs_history() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }
};

inline constexpr int32_t kMaxTopLogprobs = 256;  // bounds the size of an answer's chunk
inline constexpr int32_t kMaxLogitBias = 4096;   // bounds the size of a step frame
inline constexpr float kMaxBias = 1e6f;          // of a logit_bias or a DRY penalty
inline constexpr float kMaxMirostatMu = 1e4f;    // |mu|

// Errors: kInvalidArgument naming the field, its value and the valid range (NaN included). `vocab_size` bounds token
// ids.
absl::Status ValidateSampling(const SamplingParams& params, int32_t vocab_size);

// What a draw depends on besides logits and parameters; a function of the sequence's tokens, kept by whoever plans it.
struct DrawState {
  std::span<const int32_t> recent;  // the last tokens of the sequence (prompt and answer), oldest first
  // Tokens by ascending id and what DRY subtracts from their logits (dry.h), 0..kMaxBias.
  std::span<const std::pair<int32_t, float>> dry;
  // Bit t % 64 of word t / 64: whether token t may be drawn. ceil(vocabulary / 64) words, the bits beyond the
  // vocabulary 0; empty: every token.
  std::span<const uint64_t> allowed;
  float mirostat_mu = 0.0f;  // mirostat: what the draw before gave (SampledToken), 2 * tau before the first one
  uint64_t dropped = 0;      // tokens that the sequence has lost, so that positions come again
};
// Errors: kInvalidArgument naming field, index, value and limit: token ids, order, sizes, ranges, NaN, no token
// allowed.
absl::Status ValidateDrawState(const DrawState& state, int32_t vocab_size);

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural logarithm, of the model's distribution before any filter (after bias and penalties nothing
                  // is reported)
};

struct SampledToken {
  int32_t token = -1;
  float logprob = 0.0f;           // only with top_logprobs >= 0
  std::vector<TokenLogprob> top;  // most probable first, the lower id first among equals
  float mirostat_mu = 0.0f;       // mirostat: mu for the next draw
};

// Draws one token. Order: the mask of allowed tokens, logit bias, then greedy (with penalties and DRY) or the filters
// in their order, mirostat, draw.
//   top-n-sigma  keeps logits of at least the largest minus n standard deviations of those left.
//   typical-p    keeps the smallest set of tokens whose surprise is nearest to the entropy that reaches its share.
//   top-p        keeps the smallest set of most probable tokens whose share of what is left reaches it.
//   min-p        keeps tokens of at least min_p times the largest probability.
//   XTC          with probability xtc_probability drops all tokens of at least xtc_threshold but the least probable.
//   mirostat     1: keeps the k most probable tokens, k from mu and an estimate of the Zipf exponent; 2: drops tokens
//   of
//                more than mu bits of surprise. Then mu -= eta * (surprise of the token drawn among those kept - tau).
// Each keeps at least one token; among equals the lower id comes first. `position` is the index in the sequence that
// the drawn token will have: the random numbers are a counter-based function of (seed, state.dropped + position). Uses
// canonical arithmetic, so equal logits give equal tokens on every machine. `params` and `state` must be valid for this
// vocabulary. Cost: O(vocabulary), plus a sort of what the filters keep.
// Errors: kInternal (a logit is NaN or +infinity, or none is finite: the model's output is broken); kInvalidArgument
// (logit_bias bans every token that is allowed).
absl::StatusOr<SampledToken> Sample(std::span<const float> logits, const SamplingParams& params, const DrawState& state,
                                    uint64_t position);

// 128 random bits of Philox-4x32-10 for (seed, position): the first word draws, the second decides XTC. Exposed for
// tests.
std::array<uint32_t, 4> CounterRandom(uint64_t seed, uint64_t position);

}  // namespace tandem::engine
