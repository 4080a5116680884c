#include "coordinator/scheduler/ngram_guesser.h"

#include <algorithm>
#include <utility>

namespace tandem::coordinator {
namespace {

uint64_t Pair(int32_t first, int32_t second) {
  return (uint64_t{static_cast<uint32_t>(first)} << 32) | static_cast<uint32_t>(second);
}

// What is known of it, and the guesses behind.
class Text {
 public:
  Text(std::span<const int32_t> tokens, std::span<const int32_t> ahead) : tokens_(tokens), ahead_(ahead) {}
  int32_t known() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t end() const { return static_cast<int32_t>(tokens_.size() + ahead_.size()); }
  int32_t operator[](int32_t i) const { return i < known() ? tokens_[i] : ahead_[i - known()]; }

 private:
  const std::span<const int32_t> tokens_, ahead_;
};

// How many tokens before `place` are as those before `end`.
int32_t MatchLength(const Text& text, int32_t place, int32_t end) {
  const int32_t most = std::min(place, NgramGuesser::kMaxLength);
  int32_t length = 0;
  while (length < most && text[place - 1 - length] == text[end - 1 - length]) ++length;
  return length;
}

// The place closest to `expected` that matches, of places behind two equal tokens if there are such.
NgramMatch FindNear(const Text& text, int32_t expected) {
  NgramMatch best = {.kind = MatchKind::kReplaced, .after = expected};
  for (int32_t off = 0; off <= NgramGuesser::kMaxEdit; ++off) {
    for (const int32_t place : {expected - off, expected + off}) {
      if (place < 1 || place >= text.known()) continue;
      const int32_t length = MatchLength(text, place, text.end());
      if (std::min(length, 2) <= std::min(best.length, 2)) continue;
      best = {.kind = MatchKind::kNear, .after = place, .length = length};
    }
  }
  return best;
}

}  // namespace

NgramMatch NgramGuesser::Find(std::span<const int32_t> tokens, std::span<const int32_t> ahead) {
  const Text text(tokens, ahead);
  const int32_t end = text.end();
  for (int32_t place = static_cast<int32_t>(earlier_.size()); place < text.known(); ++place) {
    int32_t before = 0;
    if (place >= 2) before = std::exchange(latest_[Pair(tokens[place - 2], tokens[place - 1])], place);
    earlier_.push_back(before);
  }
  NgramMatch best;
  if (end < 2) return best;
  const auto latest = latest_.find(Pair(text[end - 2], text[end - 1]));
  int32_t place = latest == latest_.end() ? 0 : latest->second;
  for (int32_t places = 0; place > 0 && places < kMaxPlaces; ++places, place = earlier_[place]) {
    const int32_t length = MatchLength(text, place, end);
    if (length > best.length) best = {.kind = MatchKind::kShort, .after = place, .length = length};
  }
  if (best.length >= kLongLength) best.kind = MatchKind::kLong;
  // Guesses that the copy rested on may be gone.
  const bool copied = distance_ > 0 && distance_ < end && end - matched_end_ <= kMaxEdit;
  if (best.kind != MatchKind::kLong && copied) {
    const NgramMatch near = FindNear(text, end - distance_);
    if (best.kind == MatchKind::kNone || near.length >= 2) best = near;
  }
  if (best.kind != MatchKind::kNone) distance_ = end - best.after;
  if (best.length >= 2) matched_end_ = end;
  return best;
}

void NgramGuesser::Append(const NgramMatch& match, int32_t count, std::span<const int32_t> tokens,
                          std::vector<int32_t>* ahead) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  for (int32_t i = match.after; i < match.after + count; ++i) {
    ahead->push_back(i < size ? tokens[i] : (*ahead)[i - size]);  // beyond the end the text repeats itself
  }
}

}  // namespace tandem::coordinator
