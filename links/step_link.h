// One hop of the pipeline: frames go one way, in order. Used by workers (to the next stage) and by the coordinator (to
// the first stage). A folder of its own, since both sides dial and serve it; worker and coordinator know only this
// interface.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::links {

// Takes one arriving frame. Must not block: it posts to the receiver's own bounded queue.
using FrameHandler = std::function<void(std::unique_ptr<v1::StepFrame> frame)>;

// What a link has carried so far.
struct LinkStats {
  uint64_t frames = 0;
  uint64_t bytes = 0;
  uint64_t acknowledged = 0;  // of `frames`; in memory all
  // Hand-over to Send until the receiver's acknowledgement of the last acknowledged frame; 0 in memory.
  double last_wire_s = 0;
};

// Thread-safe. Stop order: Close, then destroy.
class StepLink {
 public:
  virtual ~StepLink() = default;
  // Queues the frame for sending; never blocks. Errors: kUnavailable (closed or broken: the message says why),
  // kResourceExhausted (the receiver has not acknowledged kMaxUnacknowledged + kAckFrames frames, or kMaxQueuedBytes).
  virtual absl::Status Send(std::unique_ptr<v1::StepFrame> frame) = 0;
  // Ends the link; frames not sent yet are dropped. Idempotent. After it returns no callback of the link runs.
  virtual void Close() = 0;
  virtual LinkStats stats() const = 0;
};

// What a hop may have under way, and a stage waiting. A pipeline has few steps in flight; whoever reaches this is
// broken.
inline constexpr int kMaxUnacknowledged = 64;
// A receiver may keep an acknowledgement back until so many frames can have it together.
inline constexpr int kAckFrames = 16;
inline constexpr uint64_t kMaxQueuedBytes = uint64_t{1} << 30;

// Both ends in one process: Send calls the handler on the caller's thread.
std::unique_ptr<StepLink> MakeInMemoryLink(FrameHandler handler);

}  // namespace tandem::links
