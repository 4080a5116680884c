#include "cli/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/time/clock.h"

namespace tandem::cli {
namespace {

constexpr absl::Duration kQuietTime = absl::Seconds(1);
constexpr absl::Duration kInterval = absl::Milliseconds(100);
constexpr int kWidth = 40;

}  // namespace

ProgressBar::ProgressBar(std::string title, bool shown)
    : title_(std::move(title)), shown_(shown && isatty(STDERR_FILENO) != 0), start_(absl::Now()) {}

ProgressBar::~ProgressBar() {
  if (any_) std::fputc('\n', stderr);
}

void ProgressBar::Update(double fraction, absl::string_view note) {
  const absl::Time now = absl::Now();
  if (!shown_ || now - start_ < kQuietTime || (now - last_ < kInterval && fraction < 1)) return;
  last_ = now;
  any_ = true;
  const int filled = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * kWidth);
  // The end of the line is cleared: the note before may have been longer.
  std::fprintf(stderr, "\r%s [%s%s] %3.0f %%  %s\033[K", title_.c_str(), std::string(filled, '#').c_str(),
               std::string(kWidth - filled, ' ').c_str(), fraction * 100, std::string(note).c_str());
}

}  // namespace tandem::cli
