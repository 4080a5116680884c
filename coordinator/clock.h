// The coordinator's time, injected so that tests own it.
#pragma once

#include <chrono>

namespace tandem::coordinator {

using Time = std::chrono::steady_clock::time_point;

inline double SecondsBetween(Time from, Time to) { return std::chrono::duration<double>(to - from).count(); }

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time Now() const = 0;
};

class SteadyClock : public Clock {
 public:
  Time Now() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace tandem::coordinator
