// A progress bar on standard error for work that takes longer than a second.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "absl/time/time.h"

namespace tandem::cli {

// Silent if `shown` is false, if standard error is no terminal, or if the work ends within kQuietTime. Used by one
// thread.
class ProgressBar {
 public:
  ProgressBar(std::string title, bool shown);
  ~ProgressBar();  // ends the line
  // `fraction`: 0 to 1. `note` is shown behind the bar.
  void Update(double fraction, absl::string_view note = "");

 private:
  const std::string title_;
  const bool shown_;
  const absl::Time start_;
  absl::Time last_;
  bool any_ = false;
};

}  // namespace tandem::cli
