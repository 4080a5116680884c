// Fork-join thread pool of one stage: all threads run the same function, then meet.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace tandem::engine {

// A fixed set of threads, the caller's included as thread 0; helpers are pinned to distinct physical cores (hwloc) when
// `pin`. Waiting threads spin for a short while, then park, so an idle stage costs nothing. Threading: owned by one
// thread (the step thread), which alone calls Run and ParallelFor; not reentrant.
class ThreadPool {
 public:
  // `threads` <= 0: one per physical core that this process may run on. `pin` false leaves placement to the scheduler
  // (several stages in one process, tests).
  explicit ThreadPool(int threads, bool pin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }
  // Calls fn(thread) once on each thread, 0 <= thread < size(), and returns when all have returned.
  void Run(absl::FunctionRef<void(int thread)> fn);
  // Splits [0, count) into size() contiguous ranges, equal to one `grain`, and calls fn(begin, end, thread) for those
  // not empty.
  void ParallelFor(int64_t count, int64_t grain, absl::FunctionRef<void(int64_t begin, int64_t end, int thread)> fn);

  // Physical cores in this process's affinity mask; at least 1.
  static int PhysicalCores();

 private:
  struct State;
  int size_;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::engine
