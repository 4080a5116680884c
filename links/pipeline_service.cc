// The serving half of a hop.
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/slice.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "links/epoch_metadata.h"
#include "links/frame_codec.h"
#include "links/grpc_link.h"
#include "proto/support/status_convert.h"
#include "tandem/v1/pipeline.grpc.pb.h"

namespace tandem::links {
namespace {

// A correct sender has at most kMaxUnacknowledged frames under way, and each acknowledgement may arrive well before the
// callback that says that it was written. Only a peer that reads none reaches this.
constexpr size_t kMaxQueuedAcks = 4 * kMaxUnacknowledged;

// A frame is acknowledged, and those before it with it, when this much, this long or kAckFrames have come since the
// last time. So the sender knows what a hop takes, and small frames do not cost a message back each: besides itself it
// makes HTTP/2 give back the window that it used, and each of the two wakes threads at both ends, beside a stage that
// computes.
constexpr uint64_t kAckBytes = 1 << 20;
constexpr absl::Duration kAckInterval = absl::Seconds(1);

// v1.Pipeline with frames that we parse ourselves, and the acknowledgements with them.
using RawService =
    v1::Pipeline::WithRawCallbackMethod_Steps<v1::Pipeline::WithCallbackMethod_Probe<v1::Pipeline::Service>>;
using StepsReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

grpc::ByteBuffer SerializeAck(uint64_t step) {
  v1::StepAck ack;
  ack.set_step(step);
  const grpc::Slice slice(ack.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

// Ends a stream that is not served. Deletes itself.
class Refusal : public StepsReactor {
 public:
  explicit Refusal(const absl::Status& status) { Finish(proto_support::ToGrpc(status)); }
  void OnDone() override { delete this; }
};

class PipelineServiceImpl;

// The stream of an epoch that is served. gRPC calls the On* functions; End may be called by any thread while the
// service lists the stream. Deletes itself in OnDone.
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
    StartRead(&buffer_);
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
    absl::StatusOr<std::unique_ptr<v1::StepFrame>> frame = TakeFrame();
    slices_.clear();  // they may be large
    if (!frame.ok()) {
      End(frame.status(), /*by_us=*/false);
      return;
    }
    handler_(*std::move(frame));
    StartRead(&buffer_);
  }

  void OnWriteDone(bool ok) override {
    const grpc::ByteBuffer* next = nullptr;
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
  // The frame in buffer_. An acknowledgement goes out as soon as it is known to be the one that is due.
  absl::StatusOr<std::unique_ptr<v1::StepFrame>> TakeFrame() {
    if (!buffer_.Dump(&slices_).ok()) return absl::InvalidArgumentError("a step frame is compressed in a strange way");
    buffer_.Clear();
    pieces_.clear();
    for (const grpc::Slice& slice : slices_) {
      pieces_.emplace_back(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    TANDEM_ASSIGN_OR_RETURN(ReceivedFrame received, ReceivedFrame::Scan(pieces_));
    if (received.epoch() != epoch_) {
      return absl::InvalidArgumentError(
          absl::StrCat("a frame of epoch ", received.epoch(), " came in a stream of epoch ", epoch_));
    }
    if (received.step() != last_step_ + 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("step ", received.step(), " came after step ", last_step_, ", expected ", last_step_ + 1));
    }
    last_step_ = received.step();
    if (AckIsDue()) TANDEM_RETURN_IF_ERROR(Acknowledge(last_step_));
    return std::move(received).Take();
  }

  // Of the frame in pieces_.
  bool AckIsDue() {
    ++since_ack_frames_;
    for (absl::string_view piece : pieces_) since_ack_bytes_ += piece.size();
    const absl::Time now = absl::Now();
    if (since_ack_frames_ < kAckFrames && since_ack_bytes_ < kAckBytes && now - last_ack_ < kAckInterval) return false;
    since_ack_frames_ = 0;
    since_ack_bytes_ = 0;
    last_ack_ = now;
    return true;
  }

  absl::Status Acknowledge(uint64_t step) {
    grpc::ByteBuffer ack = SerializeAck(step);
    const grpc::ByteBuffer* next = nullptr;
    {
      absl::MutexLock lock(&mu_);
      if (!reason_.ok()) return reason_;
      if (acks_.size() >= kMaxQueuedAcks) {
        return absl::ResourceExhaustedError(absl::StrCat("the sender left ", kMaxQueuedAcks, " acknowledgements"));
      }
      acks_.emplace_back().Swap(&ack);
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
  grpc::ByteBuffer buffer_;  // of the read in progress
  // Of the frame being taken.
  std::vector<grpc::Slice> slices_;
  std::vector<absl::string_view> pieces_;
  uint64_t last_step_ = 0;
  int since_ack_frames_ = 0;
  uint64_t since_ack_bytes_ = 0;
  absl::Time last_ack_ = absl::InfinitePast();
  absl::Mutex mu_;
  bool by_us_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;  // the front of acks_ is being written
  absl::Status reason_ ABSL_GUARDED_BY(mu_);   // why the stream ends; Finish follows as soon as no write runs
  std::deque<grpc::ByteBuffer> acks_ ABSL_GUARDED_BY(mu_);  // a deque, since the front must stay where it is
};

class PipelineServiceImpl : public PipelineService, public RawService {
 public:
  ~PipelineServiceImpl() override { StopServing(); }

  void Serve(uint64_t epoch, FrameHandler handler, std::function<void(absl::Status)> on_broken) override {
    StopServing(epoch);
    absl::MutexLock lock(&mu_);
    served_[epoch] = {.handler = std::move(handler), .on_broken = std::move(on_broken)};
  }

  void StopServing(uint64_t epoch) override {
    absl::MutexLock lock(&mu_);
    const auto found = served_.find(epoch);
    if (found == served_.end()) return;
    found->second.ending = true;
    if (found->second.stream != nullptr) {
      found->second.stream->End(absl::UnavailableError("this stage stopped serving the epoch"), true);
    }
    const auto gone = [this, epoch]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      const auto it = served_.find(epoch);
      return it == served_.end() || it->second.stream == nullptr;
    };
    mu_.Await(absl::Condition(&gone));
    served_.erase(epoch);
  }

  void StopServing() override {
    while (const std::optional<uint64_t> epoch = AnyServed()) StopServing(*epoch);
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
    const auto found = served_.find(wanted);
    if (found == served_.end() || found->second.ending) {
      return new Refusal(
          absl::FailedPreconditionError(absl::StrCat("epoch ", wanted, " is not served: ", ServedText(), " is")));
    }
    Served& served = found->second;
    if (served.stream != nullptr) {
      return new Refusal(absl::AlreadyExistsError(absl::StrCat("epoch ", wanted, " has its stream already")));
    }
    served.stream = new IncomingStream(*this, *context, wanted, served.handler, served.on_broken);
    served.stream->Start();
    return served.stream;
  }

  grpc::ServerUnaryReactor* Probe(grpc::CallbackServerContext* context, const v1::ProbeRequest*,
                                  v1::ProbeReply*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  // The stream of `epoch` is about to be deleted.
  void Forget(uint64_t epoch) {
    absl::MutexLock lock(&mu_);
    served_.at(epoch).stream = nullptr;
  }

 private:
  struct Served {
    FrameHandler handler;
    std::function<void(absl::Status)> on_broken;
    IncomingStream* stream = nullptr;  // deletes itself after Forget, for which the entry stays
    bool ending = false;
  };

  std::optional<uint64_t> AnyServed() {
    absl::MutexLock lock(&mu_);
    if (served_.empty()) return std::nullopt;
    return served_.begin()->first;
  }

  std::string ServedText() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    std::vector<uint64_t> epochs;
    for (const auto& [epoch, served] : served_) {
      if (!served.ending) epochs.push_back(epoch);
    }
    return epochs.empty() ? "none" : absl::StrCat("epoch ", absl::StrJoin(epochs, ", "));
  }

  absl::Mutex mu_;
  std::map<uint64_t, Served> served_ ABSL_GUARDED_BY(mu_);  // by epoch
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
  service_.Forget(epoch_);
  delete this;
}

}  // namespace

std::unique_ptr<PipelineService> MakePipelineService() { return std::make_unique<PipelineServiceImpl>(); }

}  // namespace tandem::links
