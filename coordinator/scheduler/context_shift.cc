#include "coordinator/scheduler/context_shift.h"

#include "absl/strings/str_cat.h"

namespace tandem::coordinator {

absl::Status CheckKeep(int32_t keep, int32_t context) {
  if (keep >= 0 && keep <= context / 2) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("keep is ", keep,
                                                 " tokens of the prompt, BOS included, expected 0 to ", context / 2,
                                                 ", half of the context of ", context));
}

void DropOldest(int32_t context, Sequence* sequence) {
  const int32_t keep = sequence->spec.keep;
  const int32_t left = context - (context - keep + 1) / 2;
  const int32_t dropped = sequence->length() - left;
  const auto oldest = sequence->tokens.begin() + keep;
  sequence->tokens.erase(oldest, oldest + dropped);
  sequence->dropped += dropped;
  ++sequence->shifts;
  sequence->guesses.Restart();
}

}  // namespace tandem::coordinator
