#include "worker/join_stream.h"

#include <utility>

#include "proto/support/status_convert.h"

namespace tandem::worker {
namespace {

// Heartbeats and progress of minutes: a coordinator that takes none of them is not there.
constexpr size_t kMaxQueued = 256;

}  // namespace

JoinStream::JoinStream(v1::Cluster::Stub& stub, OnMessage on_message, OnEnd on_end)
    : on_message_(std::move(on_message)), on_end_(std::move(on_end)) {
  stub.async()->Join(&context_, this);
  AddHold();  // keeps OnDone away while Send may be about to write
  StartRead(&incoming_);
  StartCall();
}

bool JoinStream::Send(v1::WorkerMessage message) {
  const v1::WorkerMessage* next = nullptr;
  {
    absl::MutexLock lock(&mu_);
    if (read_ended_ || write_failed_ || outgoing_.size() >= kMaxQueued) return false;
    outgoing_.push_back(std::move(message));
    if (!writing_) {
      writing_ = true;
      next = &outgoing_.front();
    }
  }
  if (next != nullptr) StartWrite(next);
  return true;
}

void JoinStream::Close() {
  context_.TryCancel();
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&done_));
}

void JoinStream::OnReadDone(bool ok) {
  if (ok) {
    on_message_(std::move(incoming_));
    incoming_.Clear();
    StartRead(&incoming_);
    return;
  }
  bool release = false;
  {
    absl::MutexLock lock(&mu_);
    read_ended_ = true;
    release = TakeHold();
  }
  if (release) RemoveHold();
}

void JoinStream::OnWriteDone(bool ok) {
  const v1::WorkerMessage* next = nullptr;
  bool release = false;
  {
    absl::MutexLock lock(&mu_);
    outgoing_.pop_front();
    write_failed_ = !ok;
    if (ok && !read_ended_ && !outgoing_.empty()) {
      next = &outgoing_.front();
    } else {
      writing_ = false;
      release = TakeHold();
    }
  }
  if (next != nullptr) StartWrite(next);
  if (release) RemoveHold();
}

void JoinStream::OnDone(const grpc::Status& status) {
  on_end_(proto_support::FromGrpc(status));
  absl::MutexLock lock(&mu_);
  done_ = true;
}

bool JoinStream::TakeHold() {
  const bool release = holding_ && read_ended_ && !writing_;
  if (release) holding_ = false;
  return release;
}

}  // namespace tandem::worker
