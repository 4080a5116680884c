// The serving half of a hop.
#include <deque>
#include <utility>

#include <grpcpp/support/server_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "links/epoch_metadata.h"
#include "links/grpc_link.h"
#include "proto/support/status_convert.h"
#include "tandem/v1/pipeline.grpc.pb.h"

namespace tandem::links {
namespace {

// A correct sender has at most kMaxUnacknowledged frames under way, and each acknowledgement may arrive well before the
// callback that says that it was written. Only a peer that reads none reaches this.
constexpr size_t kMaxQueuedAcks = 4 * kMaxUnacknowledged;

using StepsReactor = grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck>;

// Ends a stream that is not served. Deletes itself.
class Refusal : public StepsReactor {
 public:
  explicit Refusal(const absl::Status& status) { Finish(proto_support::ToGrpc(status)); }
  void OnDone() override { delete this; }
};

class PipelineServiceImpl;

// The stream of the epoch being served. gRPC calls the On* functions; End may be called by any thread while the service
// lists the stream. Deletes itself in OnDone.
class IncomingStream : public StepsReactor {
 public:
  IncomingStream(PipelineServiceImpl& service, grpc::CallbackServerContext& context, uint64_t epoch,
                 FrameHandler handler, std::function<void(absl::Status)> on_broken)
      : service_(service),
        context_(context),
        epoch_(epoch),
        handler_(std::move(handler)),
        on_broken_(std::move(on_broken)) {}

  void Start() {
    context_.AddInitialMetadata(kEpochMetadata, absl::StrCat(epoch_));
    StartSendInitialMetadata();
    frame_ = std::make_unique<v1::StepFrame>();
    StartRead(frame_.get());
  }

  // Ends the stream with `status`; `by_us` keeps on_broken silent.
  void End(absl::Status status, bool by_us) {
    bool finish = false, cancel = false;
    {
      absl::MutexLock lock(&mu_);
      by_us_ = by_us_ || by_us;
      // An acknowledgement that the peer does not take must not delay our own end.
      cancel = by_us && writing_;
      if (reason_.ok()) {
        reason_ = status;
        finish = !writing_;
      }
    }
    if (cancel) context_.TryCancel();
    if (finish) Finish(proto_support::ToGrpc(status));
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      End(absl::UnavailableError("the sending end closed the stream"), /*by_us=*/false);
      return;
    }
    absl::Status valid = CheckFrame();
    if (valid.ok()) valid = Acknowledge(frame_->step());
    if (!valid.ok()) {
      End(std::move(valid), /*by_us=*/false);
      return;
    }
    handler_(std::move(frame_));
    frame_ = std::make_unique<v1::StepFrame>();
    StartRead(frame_.get());
  }

  void OnWriteDone(bool ok) override {
    const v1::StepAck* next = nullptr;
    absl::Status ended;
    {
      absl::MutexLock lock(&mu_);
      acks_.pop_front();
      ended = reason_;
      // A failed write is followed by a failed read, which ends the stream.
      if (ok && ended.ok() && !acks_.empty()) {
        next = &acks_.front();
      } else {
        writing_ = false;
      }
    }
    if (next != nullptr) StartWrite(next);
    if (!ended.ok()) Finish(proto_support::ToGrpc(ended));
  }

  void OnDone() override;

 private:
  absl::Status CheckFrame() {
    if (frame_->epoch() != epoch_) {
      return absl::InvalidArgumentError(
          absl::StrCat("a frame of epoch ", frame_->epoch(), " came in a stream of epoch ", epoch_));
    }
    if (frame_->step() != last_step_ + 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("step ", frame_->step(), " came after step ", last_step_, ", expected ", last_step_ + 1));
    }
    last_step_ = frame_->step();
    return absl::OkStatus();
  }

  absl::Status Acknowledge(uint64_t step) {
    const v1::StepAck* next = nullptr;
    {
      absl::MutexLock lock(&mu_);
      if (!reason_.ok()) return reason_;
      if (acks_.size() >= kMaxQueuedAcks) {
        return absl::ResourceExhaustedError(absl::StrCat("the sender left ", kMaxQueuedAcks, " acknowledgements"));
      }
      acks_.emplace_back().set_step(step);
      if (!writing_) {
        writing_ = true;
        next = &acks_.front();
      }
    }
    if (next != nullptr) StartWrite(next);
    return absl::OkStatus();
  }

  PipelineServiceImpl& service_;
  grpc::CallbackServerContext& context_;
  const uint64_t epoch_;
  const FrameHandler handler_;
  const std::function<void(absl::Status)> on_broken_;
  std::unique_ptr<v1::StepFrame> frame_;  // of the read in progress
  uint64_t last_step_ = 0;
  absl::Mutex mu_;
  bool by_us_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;          // the front of acks_ is being written
  absl::Status reason_ ABSL_GUARDED_BY(mu_);           // why the stream ends; Finish follows as soon as no write runs
  std::deque<v1::StepAck> acks_ ABSL_GUARDED_BY(mu_);  // a deque, since the front must stay where it is
};

class PipelineServiceImpl : public PipelineService, public v1::Pipeline::CallbackService {
 public:
  ~PipelineServiceImpl() override { StopServing(); }

  void Serve(uint64_t epoch, FrameHandler handler, std::function<void(absl::Status)> on_broken) override {
    StopServing();
    absl::MutexLock lock(&mu_);
    serving_ = true;
    epoch_ = epoch;
    handler_ = std::move(handler);
    on_broken_ = std::move(on_broken);
  }

  void StopServing() override {
    absl::MutexLock lock(&mu_);
    serving_ = false;
    handler_ = nullptr;
    on_broken_ = nullptr;
    if (stream_ != nullptr) stream_->End(absl::UnavailableError("this stage stopped serving the epoch"), true);
    const auto gone = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return stream_ == nullptr; };
    mu_.Await(absl::Condition(&gone));
  }

  grpc::Service* service() override { return this; }

  StepsReactor* Steps(grpc::CallbackServerContext* context) override {
    uint64_t wanted = 0;
    const auto& metadata = context->client_metadata();
    const auto it = metadata.find(kEpochMetadata);
    if (it == metadata.end() || !absl::SimpleAtoi(absl::string_view(it->second.data(), it->second.size()), &wanted)) {
      return new Refusal(absl::InvalidArgumentError(absl::StrCat("metadata ", kEpochMetadata, " has no number")));
    }
    absl::MutexLock lock(&mu_);
    if (!serving_) {
      return new Refusal(absl::FailedPreconditionError(absl::StrCat("epoch ", wanted, " is not served: none is")));
    }
    if (wanted != epoch_) {
      return new Refusal(
          absl::FailedPreconditionError(absl::StrCat("epoch ", wanted, " is not served: epoch ", epoch_, " is")));
    }
    if (stream_ != nullptr) {
      return new Refusal(absl::AlreadyExistsError(absl::StrCat("epoch ", wanted, " has its stream already")));
    }
    stream_ = new IncomingStream(*this, *context, epoch_, handler_, on_broken_);
    stream_->Start();
    return stream_;
  }

  // The stream is about to be deleted.
  void Forget() {
    absl::MutexLock lock(&mu_);
    stream_ = nullptr;
  }

 private:
  absl::Mutex mu_;
  bool serving_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t epoch_ ABSL_GUARDED_BY(mu_) = 0;
  FrameHandler handler_ ABSL_GUARDED_BY(mu_);
  std::function<void(absl::Status)> on_broken_ ABSL_GUARDED_BY(mu_);
  IncomingStream* stream_ ABSL_GUARDED_BY(mu_) = nullptr;  // deletes itself after Forget
};

void IncomingStream::OnDone() {
  absl::Status reason;
  bool by_us = false;
  {
    absl::MutexLock lock(&mu_);
    reason = reason_;
    by_us = by_us_;
  }
  if (!by_us && on_broken_) on_broken_(reason);
  service_.Forget();
  delete this;
}

}  // namespace

std::unique_ptr<PipelineService> MakePipelineService() { return std::make_unique<PipelineServiceImpl>(); }

}  // namespace tandem::links
