// The one thread that owns a stage. Frames come in from the link before it, are executed in order, and leave through
// the link after it. Used by the worker over gRPC links, by an embedded cluster and a draft model over in-memory ones:
// nothing here knows gRPC or keeps state outside the object, so a process may have several.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "engine/base/mutex.h"
#include "engine/model/model_spec.h"
#include "engine/quant/tensor_type.h"
#include "engine/stage.h"
#include "links/step_link.h"
#include "proto/support/engine_convert.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::links {

// What a step cost on this stage, for metrics.
struct StepCost {
  double queue_s = 0;      // from Post to the start of its execution
  double compute_s = 0;    // execution
  int64_t tokens = 0;      // of all its slices
  uint64_t bytes_in = 0;   // the frame as it came, as a message
  uint64_t bytes_out = 0;  // and as it left
};

struct StepLoopOptions {
  // Frames that may wait. A sender that follows the protocol has few under way; more mean that something is wrong.
  size_t capacity = links::kMaxUnacknowledged;
  uint64_t capacity_bytes = links::kMaxQueuedBytes;
  // What activations leave as: one of engine::ActivationTypes that rows of the model fit.
  engine::TensorType activations = engine::TensorType::kF32;
  // Called on the step thread when an executed step has been sent on; may be null. Must not block.
  std::function<void(const StepCost&)> observer;
  // Called at most once, on the step thread or on that of Post, when a frame was lost: the queue was full, or the next
  // link refused it. The pipeline is then broken for good. Must not block, nor stop or destroy the loop.
  std::function<void(absl::Status)> on_failure;
};

// Ownership: owns the stage, the thread and, from Start on, the outgoing link. Threading: Post is thread-safe; Start,
// Stop and the destructor belong to the owner. Stop order: first whoever posts, then the loop.
class StepLoop {
 public:
  // `spec` is the model's, `index` the stage's place in the pipeline. Frames may be posted at once; they wait for
  // Start.
  StepLoop(std::unique_ptr<engine::Stage> stage, const engine::ModelSpec& spec, uint32_t index,
           StepLoopOptions options);
  ~StepLoop();
  StepLoop(const StepLoop&) = delete;
  StepLoop& operator=(const StepLoop&) = delete;

  // Begins to execute. `next` takes the results: of a middle stage the activations, of the last one the drawn tokens.
  // Call once.
  void Start(std::unique_ptr<links::StepLink> next);
  // Queues a frame; never blocks. A frame that does not fit is dropped, and on_failure called.
  void Post(std::unique_ptr<v1::StepFrame> frame);
  // Replaces StepLoopOptions::activations from the next step on. Thread-safe. Errors: those of CheckActivationType.
  absl::Status SendAs(engine::TensorType type);
  // Waits for the step that runs, drops those that wait, closes the outgoing link. Idempotent.
  void Stop();

  // What the stage really holds.
  engine::StageMemory memory() const { return memory_; }

 private:
  struct Waiting {
    std::unique_ptr<v1::StepFrame> frame;
    uint64_t bytes = 0;  // as a message
    int64_t arrived_us = 0;
  };

  void Loop();
  // Executes the step that waited, and notes in its frame what it took.
  StepCost RunTimed(const Waiting& waiting);
  // Executes the frame's step and turns the frame into what the next stage gets; a failure is noted in the frame.
  void Execute(v1::StepFrame& frame);
  // The part of Execute that can fail.
  absl::Status Run(v1::StepFrame& frame);
  // Moves the results of the last stage into the frame.
  void TakeResults(v1::StepFrame& frame);
  void Fail(const absl::Status& status);

  const std::unique_ptr<engine::Stage> stage_;
  const engine::ModelSpec spec_;
  const uint32_t index_;
  const StepLoopOptions options_;
  const engine::StageMemory memory_;
  std::atomic<engine::TensorType> activations_;
  std::unique_ptr<links::StepLink> next_;  // set before the thread starts
  // Step thread only; kept between steps for their memory.
  engine::StepResult result_;
  proto_support::StepStorage storage_;

  Mutex mu_;
  CondVar changed_;
  std::deque<Waiting> queue_ ABSL_GUARDED_BY(mu_);
  uint64_t queued_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool failed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem::links
