#include "coordinator/scheduler/ngram_guesser.h"

#include <utility>

namespace tandem::coordinator {
namespace {

uint64_t Pair(int32_t first, int32_t second) {
  return (uint64_t{static_cast<uint32_t>(first)} << 32) | static_cast<uint32_t>(second);
}

}  // namespace

NgramMatch NgramGuesser::Find(std::span<const int32_t> tokens, std::span<const int32_t> ahead) {
  const int32_t size = static_cast<int32_t>(tokens.size()), end = size + static_cast<int32_t>(ahead.size());
  for (int32_t place = static_cast<int32_t>(earlier_.size()); place < size; ++place) {
    int32_t before = 0;
    if (place >= 2) before = std::exchange(latest_[Pair(tokens[place - 2], tokens[place - 1])], place);
    earlier_.push_back(before);
  }
  const auto at = [&](int32_t i) { return i < size ? tokens[i] : ahead[i - size]; };
  NgramMatch best;
  if (end < 2) return best;
  const auto latest = latest_.find(Pair(at(end - 2), at(end - 1)));
  int32_t place = latest == latest_.end() ? 0 : latest->second;
  for (int32_t places = 0; place > 0 && places < kMaxPlaces; ++places, place = earlier_[place]) {
    int32_t length = 2;
    while (length < kMaxLength && length < place && at(place - 1 - length) == at(end - 1 - length)) ++length;
    if (length > best.length) best = {.after = place, .length = length};
  }
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
