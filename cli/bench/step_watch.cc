#include "cli/bench/step_watch.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/support/status_convert.h"

namespace tandem::cli {
namespace {

constexpr absl::Duration kBeginPatience = absl::Seconds(10);
constexpr absl::Duration kEndPatience = absl::Seconds(1);

std::string Explain(const absl::Status& status) {
  if (absl::IsUnimplemented(status)) return "the server does not show its steps (it has no Cluster.WatchSteps)";
  if (absl::IsCancelled(status)) return "the server showed no step";
  return absl::StrCat("watching ended: ", std::string(status.message()));
}

}  // namespace

StepWatch::StepWatch(const std::shared_ptr<grpc::Channel>& channel)
    : stub_(v1::Cluster::NewStub(channel)), thread_([this] { Run(); }) {
  const absl::Time end = absl::Now() + kBeginPatience;
  absl::MutexLock lock(&mu_);
  while (!begun_ && !changed_.WaitWithDeadline(&mu_, end)) {
  }
}

StepWatch::~StepWatch() { Finish(0, 0); }

void StepWatch::Finish(uint64_t prefill_tokens, uint64_t decode_tokens) {
  if (!thread_.joinable()) return;
  const absl::Time end = absl::Now() + kEndPatience;
  {
    absl::MutexLock lock(&mu_);
    while (!ended_ && (timeline_.prefill_tokens() < prefill_tokens || timeline_.decode_tokens() < decode_tokens)) {
      if (changed_.WaitWithDeadline(&mu_, end)) break;
    }
  }
  context_.TryCancel();
  thread_.join();
}

void StepWatch::Run() {
  auto reader = stub_->WatchSteps(&context_, v1::WatchStepsRequest());
  reader->WaitForInitialMetadata();
  {
    absl::MutexLock lock(&mu_);
    begun_ = true;
    changed_.Signal();
  }
  v1::StepTrace trace;
  while (reader->Read(&trace)) {
    absl::MutexLock lock(&mu_);
    timeline_.Add(trace);
    changed_.Signal();
  }
  const absl::Status status = proto_support::FromGrpc(reader->Finish());
  absl::MutexLock lock(&mu_);
  begun_ = ended_ = true;
  if (timeline_.num_steps() == 0) why_ = Explain(status);
  changed_.Signal();
}

}  // namespace tandem::cli
