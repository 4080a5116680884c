// Shows and reports how far loading is, without flooding anybody.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"

namespace tandem::worker {

// Of one load. Threading: owned by the loading thread.
class LoadProgressMeter {
 public:
  using Report = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;
  using ShowLine = std::function<void(const std::string& line)>;

  // `title` is for people ("layers 0 to 15"). `report` goes to the coordinator, at most ten times a second and once at
  // the end; `show` gets the text for people: a bar that begins with a carriage return when `terminal`, as often as
  // `report`; else a line for every 10 %, at most one a second, and one at the end.
  LoadProgressMeter(std::string title, bool terminal, Report report, ShowLine show);

  void Update(uint64_t bytes_done, uint64_t bytes_total, absl::Time now);

 private:
  std::string Bar(uint64_t done, uint64_t total, absl::Time now) const;

  const std::string title_;
  const bool terminal_;
  const Report report_;
  const ShowLine show_;
  absl::Time begin_ = absl::InfinitePast();
  absl::Time last_report_ = absl::InfinitePast();
  absl::Time last_line_ = absl::InfinitePast();
  int last_tenth_ = 0;
  bool finished_ = false;
};

}  // namespace tandem::worker
