#include "engine/evaluation/text_scoring.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {
namespace {

// Of logits at a time: a whole step of 512 tokens of a large vocabulary would have some hundred MB.
constexpr int64_t kLogitsPerStep = int64_t{16} << 20;

// Feeds one window to the stage.
class WindowRun {
 public:
  WindowRun(Stage& stage, std::span<const int32_t> input) : stage_(stage), input_(input) {
    const int32_t page_tokens = stage.options().page_tokens;
    pages_.resize((input.size() + page_tokens - 1) / page_tokens);
    std::iota(pages_.begin(), pages_.end(), 0u);
  }

  // Input positions [begin, end) in one step; the result is in `logits` if they are wanted.
  absl::Status Step(int64_t begin, int64_t end, SliceOutput output, std::vector<float>* logits) {
    engine::Step step;
    step.slices.push_back({.position = static_cast<int32_t>(begin),
                           .tokens = input_.subspan(begin, end - begin),
                           .pages = std::span(pages_).first((end - 1) / stage_.options().page_tokens + 1),
                           .output = output});
    TANDEM_RETURN_IF_ERROR(stage_.Run(step, &result_));
    if (output == SliceOutput::kLogits) logits->swap(result_.results.at(0).logits);
    return absl::OkStatus();
  }

 private:
  Stage& stage_;
  const std::span<const int32_t> input_;
  std::vector<uint32_t> pages_;
  StepResult result_;
};

absl::Status CheckOptions(const Stage& stage, int64_t tokens, const ScoringOptions& options) {
  const int64_t room = int64_t{stage.options().num_pages} * stage.options().page_tokens;
  if (options.context < 2 || options.context > room) {
    return absl::InvalidArgumentError(
        absl::StrCat("the context is ", options.context, " tokens, expected 2 to ", room));
  }
  if (options.stride < 1 || options.stride > options.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("the stride is ", options.stride, " tokens, expected 1 to the context, ", options.context));
  }
  if (tokens < 2) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", tokens, " tokens, at least 2 are needed"));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<ScoringWindow> CutWindows(int64_t tokens, const ScoringOptions& options) {
  // The last token of a window is predicted, not seen; with BOS, BOS takes its place.
  const int64_t length = options.bos >= 0 ? options.context : int64_t{options.context} + 1;
  const int64_t unscored = options.bos >= 0 ? 0 : 1;
  std::vector<ScoringWindow> windows;
  int64_t scored = unscored;
  for (int64_t begin = 0; scored < tokens; begin += options.stride) {
    const int64_t end = std::min(tokens, begin + length);
    windows.push_back({.begin = begin, .end = end, .first_scored = std::max(scored, begin + unscored)});
    scored = end;
  }
  return windows;
}

absl::Status ScoreText(Stage& stage, int32_t vocab, std::span<const int32_t> text, const ScoringOptions& options,
                       const ScoringProgress& progress, OnScored on_scored) {
  TANDEM_RETURN_IF_ERROR(CheckOptions(stage, text.size(), options));
  const int64_t max_step = stage.options().max_step_tokens;
  const int64_t max_rows = std::clamp<int64_t>(kLogitsPerStep / vocab, 1, max_step);
  std::vector<float> logits;
  std::vector<int32_t> input;
  for (const ScoringWindow& window : CutWindows(text.size(), options)) {
    input.clear();
    if (options.bos >= 0) input.push_back(options.bos);
    input.insert(input.end(), text.begin() + window.begin, text.begin() + window.end - 1);
    WindowRun run(stage, input);
    // The input at position p predicts the text's token p + shift.
    const int64_t shift = window.begin + (options.bos >= 0 ? 0 : 1);
    const int64_t first = window.first_scored - shift, size = static_cast<int64_t>(input.size());
    for (int64_t begin = 0; begin < first; begin += max_step) {
      TANDEM_RETURN_IF_ERROR(run.Step(begin, std::min(first, begin + max_step), SliceOutput::kNone, nullptr));
    }
    for (int64_t begin = first; begin < size; begin += max_rows) {
      const int64_t end = std::min(size, begin + max_rows);
      TANDEM_RETURN_IF_ERROR(run.Step(begin, end, SliceOutput::kLogits, &logits));
      TANDEM_RETURN_IF_ERROR(on_scored(text.subspan(begin + shift, end - begin), logits));
      if (progress && !progress(end + shift, text.size())) return absl::CancelledError("interrupted");
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
