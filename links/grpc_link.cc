// The dialling half of a hop.
#include "links/grpc_link.h"

#include <deque>
#include <utility>

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/client_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "links/epoch_metadata.h"
#include "links/frame_codec.h"
#include "proto/support/channel.h"
#include "proto/support/status_convert.h"
#include "tandem/v1/pipeline.grpc.pb.h"

namespace tandem::links {
namespace {

// v1.Pipeline.Steps with frames that we serialise ourselves.
using FrameStub = grpc::TemplatedGenericStub<grpc::ByteBuffer, v1::StepAck>;
constexpr char kStepsMethod[] = "/tandem.v1.Pipeline/Steps";

// Activations shorter than this are copied: a slice of their own would cost more.
constexpr size_t kCopiedBytes = 1024;

// The activations leave from where they lie; the frame's string goes with the buffer.
grpc::ByteBuffer Serialize(std::unique_ptr<v1::StepFrame> frame) {
  auto activations = std::make_unique<std::string>(std::move(*frame->mutable_activations()));
  frame->clear_activations();
  std::string head = SerializeHead(*frame, activations->size());
  if (activations->size() < kCopiedBytes) {
    head += *activations;
    const grpc::Slice slice(head);
    return grpc::ByteBuffer(&slice, 1);
  }
  char* const data = activations->data();
  const size_t size = activations->size();
  const grpc::Slice slices[] = {
      grpc::Slice(head),
      grpc::Slice(
          data, size, [](void* string) { delete static_cast<std::string*>(string); }, activations.release())};
  return grpc::ByteBuffer(slices, 2);
}

// The stream of one link. gRPC calls the On* functions, at most one of each kind at a time; everything else may be
// called by any thread. It must not be destroyed before WaitUntilDone has returned.
//
// Writes start on the sender's thread or in OnWriteDone, never before the previous OnWriteDone; gRPC objects are called
// without the lock. A hold keeps OnDone away while a sender may be about to write.
class Stream : public grpc::ClientBidiReactor<grpc::ByteBuffer, v1::StepAck> {
 public:
  explicit Stream(const GrpcLinkOptions& options)
      : options_(options), stub_(proto_support::MakeChannel(options.address)) {
    context_.AddMetadata(kEpochMetadata, absl::StrCat(options.epoch));
    context_.set_wait_for_ready(true);  // a member that is just starting is waited for
  }

  void Start() {
    stub_.PrepareBidiStreamingCall(&context_, kStepsMethod, grpc::StubOptions(), this);
    AddHold();
    StartRead(&ack_);
    StartCall();
  }

  // Until the other end has accepted the stream. On error the stream is cancelled, and its callbacks have ended.
  absl::Status WaitUntilAccepted(absl::Duration timeout) {
    bool timed_out = false;
    {
      absl::MutexLock lock(&mu_);
      const auto decided = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return accepted_ || done_; };
      timed_out = !mu_.AwaitWithTimeout(absl::Condition(&decided), timeout);
      if (!timed_out && accepted_) return absl::OkStatus();
      closed_ = true;  // nobody has the link yet, so nobody is told that it broke
    }
    if (timed_out) Fail(absl::UnavailableError(absl::StrCat("no connection within ", absl::FormatDuration(timeout))));
    WaitUntilDone();
    absl::MutexLock lock(&mu_);
    return Named(failure_);
  }

  absl::Status Send(std::unique_ptr<v1::StepFrame> frame) {
    const uint64_t step = frame->step();
    grpc::ByteBuffer bytes = Serialize(std::move(frame));
    const uint64_t size = bytes.Length();
    const grpc::ByteBuffer* next = nullptr;
    {
      absl::MutexLock lock(&mu_);
      if (closed_) return absl::UnavailableError("the link is closed");
      if (read_ended_ || write_failed_)
        return Named(absl::UnavailableError(
            absl::StrCat("the link broke: ", failure_.ok() ? "its stream has ended" : failure_.message())));
      // One frame may be as large as it likes, more than one not.
      const bool full = !unacknowledged_.empty() && unacknowledged_bytes_ + size > kMaxQueuedBytes;
      if (full || unacknowledged_.size() >= kMaxUnacknowledged + kAckFrames) {
        return Named(
            absl::ResourceExhaustedError(absl::StrCat(unacknowledged_.size(), " frames of ", unacknowledged_bytes_,
                                                      " bytes are unacknowledged: the other end does not take "
                                                      "them")));
      }
      unacknowledged_.push_back({step, size, absl::Now()});
      unacknowledged_bytes_ += size;
      ++stats_.frames;
      stats_.bytes += size;
      queue_.emplace_back().Swap(&bytes);
      if (!writing_) {
        writing_ = true;
        next = &queue_.front();
      }
    }
    if (next != nullptr) StartWrite(next);
    return absl::OkStatus();
  }

  // Ends the stream and waits for its callbacks.
  void Close() {
    {
      absl::MutexLock lock(&mu_);
      closed_ = true;
    }
    context_.TryCancel();
    WaitUntilDone();
  }

  LinkStats stats() {
    absl::MutexLock lock(&mu_);
    return stats_;
  }

  void OnReadInitialMetadataDone(bool ok) override {
    // A refusal has initial metadata too, so its presence alone says nothing.
    if (!ok || context_.GetServerInitialMetadata().count(kEpochMetadata) == 0) return;
    absl::MutexLock lock(&mu_);
    accepted_ = true;
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      bool release = false;
      {
        absl::MutexLock lock(&mu_);
        read_ended_ = true;
        release = TakeHold();
      }
      if (release) RemoveHold();
      return;
    }
    double wire_s = 0;
    bool expected = false;
    {
      absl::MutexLock lock(&mu_);
      expected = !unacknowledged_.empty() && unacknowledged_.front().step <= ack_.step() &&
                 unacknowledged_.back().step >= ack_.step();
      // It stands for all frames up to this one, which alone it was not kept waiting.
      for (bool more = expected; more;) {
        const Unacknowledged& frame = unacknowledged_.front();
        more = frame.step < ack_.step();
        wire_s = absl::ToDoubleSeconds(absl::Now() - frame.sent);
        unacknowledged_bytes_ -= frame.bytes;
        ++stats_.acknowledged;
        unacknowledged_.pop_front();
      }
      if (expected) stats_.last_wire_s = wire_s;
    }
    if (expected) {
      if (options_.on_ack) options_.on_ack(wire_s);
    } else {
      Fail(absl::InternalError(absl::StrCat("step ", ack_.step(), " was acknowledged out of turn")));
    }
    StartRead(&ack_);
  }

  void OnWriteDone(bool ok) override {
    const grpc::ByteBuffer* next = nullptr;
    bool release = false;
    grpc::ByteBuffer sent;  // freed without the lock: it may be large
    {
      absl::MutexLock lock(&mu_);
      sent.Swap(&queue_.front());
      queue_.pop_front();
      // After a failed write the read fails too and ends the stream; what is queued is not sent any more.
      write_failed_ = !ok;
      if (ok && !read_ended_ && !queue_.empty()) {
        next = &queue_.front();
      } else {
        writing_ = false;
        release = TakeHold();
      }
    }
    if (next != nullptr) StartWrite(next);
    if (release) RemoveHold();
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status reason;
    bool broke = false;
    {
      absl::MutexLock lock(&mu_);
      if (failure_.ok()) failure_ = proto_support::FromGrpc(status);
      if (failure_.ok()) failure_ = absl::UnavailableError("the other end closed the stream");
      reason = failure_;
      broke = accepted_ && !closed_;
    }
    if (broke && options_.on_broken) options_.on_broken(Named(reason));
    absl::MutexLock lock(&mu_);
    done_ = true;
  }

 private:
  struct Unacknowledged {
    uint64_t step, bytes;
    absl::Time sent;
  };

  absl::Status Named(const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat("link to ", options_.address, ": ", status.message()));
  }

  // Ends the stream for a reason of ours, which OnDone reports in place of "cancelled".
  void Fail(absl::Status reason) {
    {
      absl::MutexLock lock(&mu_);
      if (failure_.ok()) failure_ = std::move(reason);
    }
    context_.TryCancel();
  }

  // True once, when neither a read nor a write can follow: the caller then removes the hold.
  bool TakeHold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const bool release = holding_ && read_ended_ && !writing_;
    if (release) holding_ = false;
    return release;
  }

  void WaitUntilDone() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&done_));
  }

  const GrpcLinkOptions options_;
  FrameStub stub_;
  grpc::ClientContext context_;
  v1::StepAck ack_;  // of the read in progress
  absl::Mutex mu_;
  bool accepted_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool holding_ ABSL_GUARDED_BY(mu_) = true;
  bool read_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool write_failed_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;  // the front of queue_ is being written
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);                // why the stream ends, once known
  std::deque<grpc::ByteBuffer> queue_ ABSL_GUARDED_BY(mu_);  // a deque, since the front must stay where it is
  std::deque<Unacknowledged> unacknowledged_ ABSL_GUARDED_BY(mu_);
  uint64_t unacknowledged_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  LinkStats stats_ ABSL_GUARDED_BY(mu_);
};

class GrpcLink : public StepLink {
 public:
  explicit GrpcLink(std::unique_ptr<Stream> stream) : stream_(std::move(stream)) {}
  ~GrpcLink() override { Close(); }

  absl::Status Send(std::unique_ptr<v1::StepFrame> frame) override { return stream_->Send(std::move(frame)); }
  void Close() override { stream_->Close(); }
  LinkStats stats() const override { return stream_->stats(); }

 private:
  const std::unique_ptr<Stream> stream_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StepLink>> DialGrpcLink(const GrpcLinkOptions& options) {
  auto stream = std::make_unique<Stream>(options);
  stream->Start();
  absl::Status accepted = stream->WaitUntilAccepted(absl::Milliseconds(options.connect_timeout_ms));
  if (!accepted.ok()) return accepted;
  return std::make_unique<GrpcLink>(std::move(stream));
}

}  // namespace tandem::links
