#include "worker/load_progress.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace tandem::worker {
namespace {

constexpr absl::Duration kReportInterval = absl::Milliseconds(100);
constexpr absl::Duration kLineInterval = absl::Seconds(1);
constexpr int kBarWidth = 30;

}  // namespace

LoadProgressMeter::LoadProgressMeter(std::string title, bool terminal, Report report, ShowLine show)
    : title_(std::move(title)), terminal_(terminal), report_(std::move(report)), show_(std::move(show)) {}

void LoadProgressMeter::Update(uint64_t done, uint64_t total, absl::Time now) {
  if (finished_ || total == 0) return;
  done = std::min(done, total);
  if (begin_ == absl::InfinitePast()) begin_ = now;
  finished_ = done == total;
  const int tenth = static_cast<int>(static_cast<double>(done) / total * 10);
  if (!terminal_ && tenth > last_tenth_ && (finished_ || now - last_line_ >= kLineInterval)) {
    show_(absl::StrFormat("loading %s: %d %%, %.1f of %.1f MB", title_, tenth * 10, done / 1e6, total / 1e6));
    last_tenth_ = tenth;
    last_line_ = now;
  }
  if (!finished_ && now - last_report_ < kReportInterval) return;
  last_report_ = now;
  report_(done, total);
  if (terminal_) show_(Bar(done, total, now));
}

std::string LoadProgressMeter::Bar(uint64_t done, uint64_t total, absl::Time now) const {
  const double share = static_cast<double>(done) / total;
  const int filled = static_cast<int>(share * kBarWidth);
  const double seconds = std::max(absl::ToDoubleSeconds(now - begin_), 1e-3);
  return absl::StrFormat("\rloading %s [%s%s] %3.0f %%  %.1f of %.1f MB  %.0f MB/s  %s", title_,
                         std::string(filled, '#'), std::string(kBarWidth - filled, ' '), share * 100, done / 1e6,
                         total / 1e6, done / 1e6 / seconds, done == total ? "\n" : "");
}

}  // namespace tandem::worker
