// Finds stop strings in a text that arrives in pieces.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::coordinator {

// Of several stop strings that appear, the one that is complete first counts (of two that end together, the longer
// one), so the result does not depend on where the pieces end. One per answer; not thread-safe.
class StopMatcher {
 public:
  // `stops`: not empty strings.
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Takes the next piece and returns the text that is now known to come before any stop string. Text that might begin
  // one is held back. After found(), always "".
  std::string Push(absl::string_view text);
  // A stop string appeared: the answer ended before it.
  bool found() const { return found_; }
  // At the end of the answer: what was held back.
  std::string Flush();

 private:
  size_t HeldLength() const;  // of the longest end of held_ that begins a stop string

  const std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace tandem::coordinator
