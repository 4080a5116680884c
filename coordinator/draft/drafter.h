// Who guesses what sequences go on with, for the dispatcher to check.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tandem/v1/pipeline.pb.h"

namespace tandem::coordinator {

// What a sequence goes on with is wanted.
struct DraftTask {
  uint64_t sequence = 0;
  std::vector<int32_t> tokens;  // all, guesses among them
  int64_t left_out = 0;         // tokens of its text that it has dropped
  // As for the sequence itself: a draft is drawn with the same parameters, seed and positions, hence often alike.
  v1::Sampling sampling;
  int32_t penalty_window = 0;
  int32_t count = 0;  // tokens wanted
};

// Role: makes drafts, on threads of its own. Owned by a Dispatcher.
class Drafter {
 public:
  using Done = std::function<void(std::vector<int32_t> tokens)>;

  virtual ~Drafter() = default;
  // Calls `done` once, on any thread, with at most `count` tokens; empty: it cannot. A task of the same sequence that
  // is still under way is answered early. Never blocks.
  virtual void Draft(DraftTask task, Done done) = 0;
  // What is under way is answered before it returns. Draft is not called any more. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace tandem::coordinator
