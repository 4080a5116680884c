// How well a model predicts a text: the logits before every token of it, each with enough tokens in front.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/stage.h"

namespace tandem::engine {

// A text longer than the context is cut into windows that overlap. In each the model sees the tokens [begin, end) of
// the text and is scored on its predictions of [first_scored, end): those that no window before has scored.
struct ScoringWindow {
  int64_t begin = 0, end = 0, first_scored = 0;
  bool operator==(const ScoringWindow&) const = default;
};

struct ScoringOptions {
  int32_t context = 512;  // tokens that the model sees at most, BOS included; at least 2
  int32_t stride = 256;   // tokens by which a window begins after the one before it; 1 to context
  int32_t bos = -1;       // put in front of every window, if not -1
};

// The windows of a text of `tokens` tokens. Together they score every token once, but the first one where there is no
// BOS to predict it from. `options` are in range.
std::vector<ScoringWindow> CutWindows(int64_t tokens, const ScoringOptions& options);

// Called with the logits [targets, vocab] from which the text's tokens `targets` were predicted, in order of the text.
using OnScored = absl::FunctionRef<absl::Status(std::span<const int32_t> targets, std::span<const float> logits)>;
// Called with scored tokens; false ends the scoring with kCancelled.
using ScoringProgress = std::function<bool(int64_t done, int64_t total)>;

// Runs `text` through `stage`, which holds all layers and KV pages for `options.context` tokens. Errors:
// kInvalidArgument (options out of range, fewer than 2 tokens in the text), kCancelled, those of Stage::Run and
// `on_scored`.
absl::Status ScoreText(Stage& stage, int32_t vocab, std::span<const int32_t> text, const ScoringOptions& options,
                       const ScoringProgress& progress, OnScored on_scored);

}  // namespace tandem::engine
