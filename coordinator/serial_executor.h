// A thread that runs closures one after the other, for work that gRPC threads must not do: reading a file may block.
#pragma once

#include <deque>
#include <functional>
#include <thread>

#include "engine/base/mutex.h"

namespace tandem::coordinator {

// Thread-safe. Callers bound what they post: a stream has one closure queued at a time.
class SerialExecutor {
 public:
  SerialExecutor();
  // Stops.
  ~SerialExecutor();
  SerialExecutor(const SerialExecutor&) = delete;
  SerialExecutor& operator=(const SerialExecutor&) = delete;

  // False, and `work` dropped, after Stop.
  bool Post(std::function<void()> work);
  // Runs what is queued, then joins the thread. Idempotent.
  void Stop();

 private:
  void Run();

  Mutex mu_;
  CondVar wake_;
  std::deque<std::function<void()>> work_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Mutex stop_mu_;  // serialises Stop
  std::thread thread_ ABSL_GUARDED_BY(stop_mu_);
};

}  // namespace tandem::coordinator
