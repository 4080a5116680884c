#include "engine/base/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"

namespace tandem {

struct Interrupt::State {
  Mutex mu;
  CondVar changed;
  bool requested ABSL_GUARDED_BY(mu) = false;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  bool in_callback ABSL_GUARDED_BY(mu) = false;
  std::function<void()> callback ABSL_GUARDED_BY(mu);
  sigset_t signals;
  std::thread thread;
};

namespace {

// Ends the wait of the signal thread at destruction; otherwise unused by the process.
constexpr int kStopSignal = SIGUSR1;

}  // namespace

Interrupt::Interrupt() : state_(new State) {
  sigemptyset(&state_->signals);
  for (int signal : {SIGINT, SIGTERM, kStopSignal}) sigaddset(&state_->signals, signal);
  pthread_sigmask(SIG_BLOCK, &state_->signals, nullptr);
  state_->thread = std::thread([state = state_] {
    while (true) {
      int signal = 0;
      sigwait(&state->signals, &signal);
      std::function<void()> callback;
      {
        MutexLock lock(&state->mu);
        if (state->stopping) return;
        if (signal == kStopSignal) continue;
        if (state->requested) _exit(130);  // the second Ctrl-C: the user does not want to wait
        state->requested = true;
        state->changed.NotifyAll();
        callback = state->callback;
        state->in_callback = true;
      }
      if (callback) callback();
      MutexLock lock(&state->mu);
      state->in_callback = false;
      state->changed.NotifyAll();
    }
  });
}

Interrupt::~Interrupt() {
  {
    MutexLock lock(&state_->mu);
    state_->stopping = true;
  }
  pthread_kill(state_->thread.native_handle(), kStopSignal);
  state_->thread.join();
  delete state_;
}

bool Interrupt::requested() const {
  MutexLock lock(&state_->mu);
  return state_->requested;
}

void Interrupt::Reset() {
  MutexLock lock(&state_->mu);
  while (state_->in_callback) state_->changed.Wait(&state_->mu);
  state_->requested = false;
}

void Interrupt::Wait() {
  MutexLock lock(&state_->mu);
  while (!state_->requested) state_->changed.Wait(&state_->mu);
}

void Interrupt::OnInterrupt(std::function<void()> callback) {
  bool now = false;
  {
    MutexLock lock(&state_->mu);
    while (state_->in_callback) state_->changed.Wait(&state_->mu);
    state_->callback = callback;
    now = state_->requested;
  }
  if (now && callback) callback();
}

}  // namespace tandem
