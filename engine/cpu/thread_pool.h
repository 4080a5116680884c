// Fork-join thread pool of one stage: the threads run the parts of one task, then meet.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"

namespace tandem::engine {

// A fixed set of threads, the caller's included; helpers are pinned to distinct physical cores (hwloc), the fastest
// kind first, when `pin`, the first core being left to the caller. Waiting threads spin for a short while, then park,
// so an idle stage costs nothing; they park at once while this process has more pool threads than cores. Threading:
// owned by one thread (the step thread), which alone calls Run and ParallelFor; not reentrant.
class ThreadPool {
 public:
  // `threads` <= 0: one per physical core that this process may run on. `pin` false leaves placement to the scheduler
  // (several stages in one process, tests).
  explicit ThreadPool(int threads, bool pin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }
  // Calls fn(part) once for each 0 <= part < size(), at the same time as far as the machine allows, and returns when
  // all have returned. Part i is thread i's, but the caller (part 0) takes over those that nobody has begun when it is
  // done, so no helper is waited for that has no processor. Per-part scratch memory is safe.
  void Run(absl::FunctionRef<void(int part)> fn);
  // Splits [0, count) into size() contiguous ranges, equal to one `grain` or as the shares are, and calls
  // fn(begin, end, part) as Run does for those not empty. The same count and grain always give the same ranges.
  void ParallelFor(int64_t count, int64_t grain, absl::FunctionRef<void(int64_t begin, int64_t end, int part)> fn);

  // Lets ParallelFor split in proportion to `speeds`, one a part, all above 0. The constructor does so with measured
  // ones where `pin` puts threads on cores of different kinds (performance and efficiency cores).
  void SetShares(std::span<const double> speeds);

  // Physical cores in this process's affinity mask; at least 1.
  static int PhysicalCores();

 private:
  struct State;
  int size_;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::engine
