#include "coordinator/serial_executor.h"

#include <utility>

namespace tandem::coordinator {

SerialExecutor::SerialExecutor() : thread_([this] { Run(); }) {}

SerialExecutor::~SerialExecutor() { Stop(); }

bool SerialExecutor::Post(std::function<void()> work) {
  MutexLock lock(&mu_);
  if (stopping_) return false;
  work_.push_back(std::move(work));
  wake_.NotifyOne();
  return true;
}

void SerialExecutor::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyOne();
  }
  MutexLock lock(&stop_mu_);
  if (thread_.joinable()) thread_.join();
}

void SerialExecutor::Run() {
  for (;;) {
    std::function<void()> work;
    {
      MutexLock lock(&mu_);
      while (work_.empty() && !stopping_) wake_.Wait(&mu_);
      if (work_.empty()) return;
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
  }
}

}  // namespace tandem::coordinator
