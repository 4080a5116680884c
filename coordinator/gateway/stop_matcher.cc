#include "coordinator/gateway/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

namespace tandem::coordinator {

std::string StopMatcher::Push(absl::string_view text) {
  if (found_) return "";
  held_.append(text.data(), text.size());
  size_t first_end = std::string::npos, first_begin = 0;
  for (const std::string& stop : stops_) {
    const size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < first_end || (end == first_end && begin < first_begin)) {
      first_end = end;
      first_begin = begin;
    }
  }
  found_ = first_end != std::string::npos;
  const size_t released = found_ ? first_begin : held_.size() - HeldLength();
  std::string result = held_.substr(0, released);
  held_.erase(0, found_ ? held_.size() : released);
  return result;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

size_t StopMatcher::HeldLength() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(held_.size(), stop.size() - 1); length > longest; --length) {
      if (absl::EndsWith(held_, absl::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace tandem::coordinator
