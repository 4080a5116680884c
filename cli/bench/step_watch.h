// Watches a coordinator's steps while a load runs.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "cli/bench/stage_timeline.h"
#include "tandem/v1/cluster.grpc.pb.h"

namespace tandem::cli {

// Has a thread of its own from construction to Finish, which the thread that constructed it calls.
class StepWatch {
 public:
  // Returns when the server has begun to send, or will not.
  explicit StepWatch(const std::shared_ptr<grpc::Channel>& channel);
  ~StepWatch();
  StepWatch(const StepWatch&) = delete;
  StepWatch& operator=(const StepWatch&) = delete;

  // Ends watching when steps with so many tokens of prompts and of answers have been seen; waits for them only a
  // moment, since steps may be lost. Idempotent.
  void Finish(uint64_t prefill_tokens, uint64_t decode_tokens);

  // After Finish. The timeline is empty if the server showed no steps; `why` says why not, for people.
  const StageTimeline& timeline() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return timeline_; }
  const std::string& why() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return why_; }

 private:
  void Run();

  const std::unique_ptr<v1::Cluster::Stub> stub_;
  grpc::ClientContext context_;

  absl::Mutex mu_;
  absl::CondVar changed_;
  bool begun_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  StageTimeline timeline_ ABSL_GUARDED_BY(mu_);
  std::string why_ ABSL_GUARDED_BY(mu_);

  std::thread thread_;  // last: it uses all
};

}  // namespace tandem::cli
