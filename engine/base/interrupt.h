// Ctrl-C for programs that run until it, or that must stop what they began.
#pragma once

#include <functional>

namespace tandem {

// From construction on SIGINT and SIGTERM do not end the process but set a flag; a second one ends it at once.
// Construct before any thread is started, one a process.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool requested() const;
  // Forgets a signal that was dealt with, so that the next one is the first again.
  void Reset();
  // Blocks until the signal.
  void Wait();
  // What to do at once (cancel a call): runs on the signal thread, or here if the signal came before. Replaces the
  // callback set before, which does not run any more when this returns; {} clears it.
  void OnInterrupt(std::function<void()> callback);

 private:
  struct State;
  State* state_;
};

}  // namespace tandem
