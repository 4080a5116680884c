#include "coordinator/scheduler/guesses.h"

#include <algorithm>
#include <utility>

namespace tandem::coordinator {
namespace {

// Drafts go on behind guesses that are in steps if these are right at least that likely.
constexpr double kWorthGoingOn = 0.3;

}  // namespace

bool Guesses::OnDrawn(int32_t token, int32_t sent) {
  if (ahead_.empty()) return true;
  Verdict& verdict = verdicts_[sources_.front()];
  if (ahead_.front() == token) {
    ++verdict.right;
    if (sent > 0) ++right_;
    ahead_.erase(ahead_.begin());
    sources_.erase(sources_.begin());
    return true;
  }
  verdict.missed = true;
  for (int32_t i = 0; i < sent; ++i) ++verdicts_[sources_[i]].wrong;
  Drop();
  return false;
}

void Guesses::Learn() {
  const Verdict text = std::exchange(verdicts_[kText], {});
  const Verdict draft = std::exchange(verdicts_[kDraft], {});
  text_pace_.Learn(text.right + text.wrong, text.right);
  draft_pace_.Learn(draft.right, draft.missed);
}

void Guesses::Drop() {
  ahead_.clear();
  sources_.clear();
  awaits_ = false;
  ++branch_;
}

void Guesses::Restart() {
  Drop();
  text_ = NgramGuesser();
}

bool Guesses::LookUp(std::span<const int32_t> tokens, int32_t most) {
  const std::vector<int32_t> found = text_.Guess(tokens, ahead_, std::min(most, text_pace_.Next() - size()));
  ahead_.insert(ahead_.end(), found.begin(), found.end());
  sources_.resize(ahead_.size(), kText);
  return !found.empty();
}

int32_t Guesses::ToDraft(int32_t most, const DraftCost& cost) const {
  if (!can_draft_ || draft_pace_.RightChance(size()) < kWorthGoingOn) return 0;
  return draft_pace_.Next(most, cost);
}

void Guesses::Await(bool wait) {
  awaits_ = true;
  wait_ = wait;
}

void Guesses::OnDraft(std::span<const int32_t> tokens, std::span<const int32_t> since) {
  awaits_ = false;
  ++drafts_;
  const auto [token, drawn] = std::mismatch(tokens.begin(), tokens.end(), since.begin(), since.end());
  verdicts_[kDraft].right += static_cast<int32_t>(drawn - since.begin());
  if (drawn != since.end()) {
    verdicts_[kDraft].missed = token != tokens.end();
    return;
  }
  ahead_.insert(ahead_.end(), token, tokens.end());
  sources_.resize(ahead_.size(), kDraft);
}

void Guesses::StopDrafting() {
  awaits_ = false;
  can_draft_ = false;
}

}  // namespace tandem::coordinator
