#include "engine/model/step_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"
#include "engine/model/linear.h"

namespace tandem::engine {
namespace {

constexpr int32_t kMaxPageTokens = 4096;
constexpr int32_t kMaxPages = 1 << 24;
constexpr int32_t kMaxStepTokens = 1 << 16;
constexpr int32_t kMaxThreads = 1024;

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %d, expected %d to %d", name, value, min, max));
}

template <typename... Args>
absl::Status SliceError(int32_t index, const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat("slice ", index, ": ", absl::StrFormat(format, args...)));
}

absl::Status CheckIds(int32_t index, absl::string_view field, std::span<const int32_t> ids, int32_t vocab) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) {
      return SliceError(index, "%s[%d] is token %d, the vocabulary has ids 0 to %d", field, i, ids[i], vocab - 1);
    }
  }
  return absl::OkStatus();
}

int64_t PagesFor(const Slice& slice, int32_t page_tokens) {
  return (slice.position + static_cast<int64_t>(slice.tokens.size()) + page_tokens - 1) / page_tokens;
}

}  // namespace

absl::Status CheckStageOptions(const ModelSpec& spec, const StageOptions& options) {
  TANDEM_RETURN_IF_ERROR(CheckRange("first_layer", options.first_layer, 0, spec.num_layers - 1));
  TANDEM_RETURN_IF_ERROR(CheckRange("end_layer", options.end_layer, options.first_layer + 1, spec.num_layers));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("kv_type", static_cast<int64_t>(options.kv_type), 0, static_cast<int64_t>(AllKvFormats().size()) - 1));
  TANDEM_RETURN_IF_ERROR(CheckRange("page_tokens", options.page_tokens, 16, kMaxPageTokens));
  if (options.page_tokens % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("page_tokens is %d, expected a multiple of 16", options.page_tokens));
  }
  TANDEM_RETURN_IF_ERROR(CheckRange("num_pages", options.num_pages, 1, kMaxPages));
  TANDEM_RETURN_IF_ERROR(CheckRange("max_step_tokens", options.max_step_tokens, 1, kMaxStepTokens));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("isa", static_cast<int64_t>(options.isa), 0, static_cast<int64_t>(AllIsas().size()) - 1));
  return CheckRange("threads", options.threads, 0, kMaxThreads);
}

absl::StatusOr<int64_t> StepChecker::Check(const Step& step) {
  if (step.slices.empty() || step.slices.size() > static_cast<size_t>(options_.max_step_tokens)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the step has %d slices, expected 1 to %d", step.slices.size(), options_.max_step_tokens));
  }
  int64_t tokens = 0;
  for (size_t i = 0; i < step.slices.size(); ++i) {
    const Slice& slice = step.slices[i];
    TANDEM_RETURN_IF_ERROR(CheckSlice(static_cast<int32_t>(i), slice, tokens));
    Place(static_cast<int32_t>(i), slice, tokens);
    tokens += static_cast<int64_t>(slice.tokens.size());
  }
  if (step.copies.size() > static_cast<size_t>(options_.num_pages)) {
    return absl::InvalidArgumentError(absl::StrFormat("the step copies %d pages, expected at most the stage's %d",
                                                      step.copies.size(), options_.num_pages));
  }
  for (size_t i = 0; i < step.copies.size(); ++i) {
    const PageCopy& copy = step.copies[i];
    if (std::max(copy.from, copy.to) < static_cast<uint32_t>(options_.num_pages)) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("copies[%d] is from page %d to page %d, the stage has pages 0 to %d", i, copy.from, copy.to,
                        options_.num_pages - 1));
  }
  TANDEM_RETURN_IF_ERROR(CheckHidden(step, tokens));
  TANDEM_RETURN_IF_ERROR(ClaimPages(step));
  return tokens;
}

absl::Status StepChecker::CheckSlice(int32_t index, const Slice& slice, int64_t tokens_before) const {
  const int64_t room = options_.max_step_tokens - tokens_before;
  if (slice.tokens.empty() || slice.tokens.size() > static_cast<size_t>(room)) {
    return SliceError(index, "it has %d tokens, expected 1 to %d (max_step_tokens is %d)", slice.tokens.size(), room,
                      options_.max_step_tokens);
  }
  const int32_t last_position = kMaxPositions - static_cast<int32_t>(slice.tokens.size());
  if (slice.position < 0 || slice.position > last_position) {
    return SliceError(index, "position is %d, expected 0 to %d", slice.position, last_position);
  }
  const int64_t pages_needed = PagesFor(slice, options_.page_tokens);
  if (static_cast<int64_t>(slice.pages.size()) < pages_needed || pages_needed > options_.num_pages) {
    return SliceError(index, "it has %d pages and needs %d for positions up to %d; the stage has %d",
                      slice.pages.size(), pages_needed, slice.position + slice.tokens.size() - 1, options_.num_pages);
  }
  for (size_t i = 0; i < slice.pages.size(); ++i) {
    if (slice.pages[i] >= static_cast<uint32_t>(options_.num_pages)) {
      return SliceError(index, "pages[%d] is %d, the stage has pages 0 to %d", i, slice.pages[i],
                        options_.num_pages - 1);
    }
  }
  if (slice.output < SliceOutput::kNone || slice.output > SliceOutput::kStateSum) {
    return SliceError(index, "output is %d, which is no SliceOutput", static_cast<int>(slice.output));
  }
  TANDEM_RETURN_IF_ERROR(CheckAdapters(index, slice));
  if (is_first()) TANDEM_RETURN_IF_ERROR(CheckIds(index, "tokens", slice.tokens, spec_.vocab));
  TANDEM_RETURN_IF_ERROR(CheckGuesses(index, slice));
  if (is_last() && slice.output == SliceOutput::kSample) return CheckSampling(index, slice);
  return absl::OkStatus();
}

absl::Status StepChecker::CheckGuesses(int32_t index, const Slice& slice) const {
  if (slice.guesses == 0) return absl::OkStatus();
  if (slice.output != SliceOutput::kSample) {
    return SliceError(index, "it has %d guesses, though no token is to be drawn", slice.guesses);
  }
  if (slice.guesses < 0 || slice.guesses >= static_cast<int64_t>(slice.tokens.size())) {
    return SliceError(index, "it has %d guesses, expected 0 to %d", slice.guesses, slice.tokens.size() - 1);
  }
  if (!slice.draw.recent.empty() && slice.draw.recent.size() < static_cast<size_t>(slice.guesses)) {
    return SliceError(index, "recent has %d tokens, expected at least the %d guesses", slice.draw.recent.size(),
                      slice.guesses);
  }
  const bool bound = !slice.draw.dry.empty() || !slice.draw.allowed.empty() ||
                     (slice.sampling != nullptr && slice.sampling->mirostat != 0);
  if (!bound) return absl::OkStatus();
  return SliceError(index, "it has %d guesses, and dry, allowed or mirostat, which depend on the tokens before",
                    slice.guesses);
}

absl::Status StepChecker::CheckSampling(int32_t index, const Slice& slice) const {
  if (slice.sampling == nullptr) return SliceError(index, "sampling is missing, though a token is to be drawn");
  if (absl::Status status = ValidateSampling(*slice.sampling, spec_.vocab); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("slice ", index, ": ", status.message()));
  }
  if (absl::Status status = ValidateDrawState(slice.draw, spec_.vocab); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("slice ", index, ": ", status.message()));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckAdapters(int32_t index, const Slice& slice) const {
  if (slice.adapters.size() > static_cast<size_t>(kMaxSliceAdapters)) {
    return SliceError(index, "it goes through %d adapters, at most %d", slice.adapters.size(), kMaxSliceAdapters);
  }
  for (const AdapterUse& use : slice.adapters) {
    if (use.adapter < 0 || use.adapter >= adapters_) {
      return SliceError(index, "it goes through adapter %d, the stage has %d", use.adapter, adapters_);
    }
    if (!(std::fabs(use.scale) <= kMaxAdapterScale)) {
      return SliceError(index, "the scale of adapter %d is %g, expected within +-%g", use.adapter, use.scale,
                        kMaxAdapterScale);
    }
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckHidden(const Step& step, int64_t tokens) const {
  const int64_t expected = is_first() ? 0 : tokens * spec_.hidden;
  if (static_cast<int64_t>(step.hidden.size()) != expected) {
    return absl::InvalidArgumentError(absl::StrFormat("the step has %d hidden values, expected %d (%d tokens of %d%s)",
                                                      step.hidden.size(), expected, tokens, spec_.hidden,
                                                      is_first() ? "; none on the first stage" : ""));
  }
  if (!AllFinite(step.hidden.data(), expected)) {
    return absl::InvalidArgumentError("a hidden value of the step is infinite or not a number");
  }
  return absl::OkStatus();
}

// A page that a slice writes must belong to it alone, or the slices' results would depend on each other.
absl::Status StepChecker::ClaimPages(const Step& step) {
  ++step_number_;
  for (size_t i = 0; i < step.slices.size(); ++i) {
    const Slice& slice = step.slices[i];
    for (int64_t p = slice.position / options_.page_tokens; p < PagesFor(slice, options_.page_tokens); ++p) {
      uint64_t& written_in = scratch_.page_written_in[slice.pages[p]];
      if (written_in == step_number_) {
        return SliceError(static_cast<int32_t>(i), "pages[%d] is %d, which this step writes for other tokens too", p,
                          slice.pages[p]);
      }
      written_in = step_number_;
    }
  }
  for (size_t i = 0; i < step.slices.size(); ++i) {
    const Slice& slice = step.slices[i];
    for (int64_t p = 0; p < slice.position / options_.page_tokens; ++p) {
      if (scratch_.page_written_in[slice.pages[p]] == step_number_) {
        return SliceError(static_cast<int32_t>(i), "pages[%d] is %d, which this step writes for other tokens", p,
                          slice.pages[p]);
      }
    }
  }
  return absl::OkStatus();
}

void StepChecker::Place(int32_t index, const Slice& slice, int64_t first_token) {
  for (size_t i = 0; i < slice.tokens.size(); ++i) {
    const int32_t position = slice.position + static_cast<int32_t>(i);
    scratch_.places[first_token + i] = {.slice = index,
                                        .position = position,
                                        .page = slice.pages[position / options_.page_tokens],
                                        .slot = position % options_.page_tokens};
  }
}

}  // namespace tandem::engine
