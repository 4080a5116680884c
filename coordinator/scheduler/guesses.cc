#include "coordinator/scheduler/guesses.h"

#include <algorithm>
#include <utility>

namespace tandem::coordinator {
namespace {

// Guesses go on behind others, that are in steps, if these are right at least that likely.
constexpr double kWorthGoingOn = 0.3;
// Tokens of a draft, as long as it is not known what one costs.
constexpr int32_t kFirstDraft = 4;

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
  verdict.wrong = true;
  Drop();
  return false;
}

void Guesses::Learn() {
  for (size_t source = 0; source < verdicts_.size(); ++source) {
    const Verdict verdict = std::exchange(verdicts_[source], {});
    chances_[source].Learn(verdict.right, verdict.wrong);
  }
}

double Guesses::AheadChance() const {
  double chance = 1;
  for (const Source source : sources_) chance *= chances_[source].right();
  return chance;
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

bool Guesses::LookUp(std::span<const int32_t> tokens, std::span<const double> seconds) {
  const NgramMatch match = text_.Find(tokens, ahead_);
  if (match.kind == MatchKind::kNone || AheadChance() < kWorthGoingOn) return false;
  const Source source = static_cast<Source>(match.kind);
  const int32_t count = BestGuesses(chances_[source].right(), seconds);
  NgramGuesser::Append(match, count, tokens, &ahead_);
  sources_.resize(ahead_.size(), source);
  return count > 0;
}

int32_t Guesses::ToDraft(int32_t most, std::span<const double> seconds) const {
  if (!can_draft_ || AheadChance() < kWorthGoingOn) return 0;
  return seconds.empty() ? std::min(most, kFirstDraft) : BestGuesses(chances_[kDraft].right(), seconds);
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
    verdicts_[kDraft].wrong = token != tokens.end();
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
