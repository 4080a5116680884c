#include "coordinator/gateway/join_stream.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"
#include "proto/support/status_convert.h"

namespace tandem::coordinator {
namespace {

// True for gRPC's spelling of a peer on this machine.
bool IsLocalPeer(const std::string& peer) {
  return absl::StartsWith(peer, "ipv4:127.") || absl::StartsWith(peer, "ipv6:[::1]") ||
         absl::StartsWith(peer, "ipv6:%5B::1%5D") || absl::StartsWith(peer, "unix:");
}

// A worker on another machine that gives a loopback address could never be reached.
absl::Status CheckReachable(const std::string& address, const std::string& peer) {
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(address, &host, &port));
  if (!proto_support::IsLoopback(host) || IsLocalPeer(peer)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the worker at ", peer, " gives the address ", address,
      ", which only its own machine reaches: start it with --listen or --advertise of its network address"));
}

}  // namespace

void JoinStream::Start() {
  {
    MutexLock lock(&mu_);
    self_ = shared_from_this();
  }
  StartRead(&incoming_);
}

void JoinStream::Send(v1::CoordinatorMessage message) {
  {
    MutexLock lock(&mu_);
    if (ending_) return;
    if (outgoing_.size() < kMaxQueued) {
      outgoing_.push_back(std::move(message));
    } else {
      ending_ = true;
      status_ = absl::ResourceExhaustedError("the worker does not read its messages");
    }
  }
  Continue();
}

void JoinStream::End(absl::Status status) {
  {
    MutexLock lock(&mu_);
    if (ending_) return;
    ending_ = true;
    status_ = std::move(status);
  }
  Continue();
}

void JoinStream::OnReadDone(bool ok) {
  absl::Status taken = ok ? Take(std::move(incoming_)) : absl::OkStatus();
  if (ok && taken.ok()) {
    incoming_.Clear();
    StartRead(&incoming_);
    return;
  }
  if (id_ != 0) manager_.Leave(id_, ok ? taken : absl::UnavailableError("its connection has ended"));
  End(taken);
}

absl::Status JoinStream::Take(v1::WorkerMessage message) {
  if (id_ != 0) {
    if (manager_.OnMessage(id_, std::move(message))) return absl::OkStatus();
    return absl::ResourceExhaustedError("the coordinator is stopping or overloaded");
  }
  if (!message.has_hello()) return absl::InvalidArgumentError("the first message must be a Hello");
  TANDEM_RETURN_IF_ERROR(CheckReachable(message.hello().address(), peer_));
  id_ = manager_.Join(std::move(*message.mutable_hello()), shared_from_this());
  return absl::OkStatus();
}

void JoinStream::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mu_);
    writing_ = false;
    outgoing_.pop_front();
    if (!ok) outgoing_.clear();  // the reading side will see the end too
  }
  Continue();
}

void JoinStream::OnDone() {
  std::shared_ptr<JoinStream> self;  // perhaps the last: released after the lock
  MutexLock lock(&mu_);
  ending_ = finished_ = true;
  self = std::move(self_);
}

void JoinStream::Continue() {
  const v1::CoordinatorMessage* write = nullptr;
  bool finish = false;
  absl::Status status;
  {
    MutexLock lock(&mu_);
    if (writing_ || finished_) return;
    if (!outgoing_.empty()) {
      writing_ = true;
      write = &outgoing_.front();
    } else if (ending_) {
      finish = finished_ = true;
      status = status_;
    }
  }
  if (write != nullptr) StartWrite(write);
  if (finish) Finish(proto_support::ToGrpc(status));
}

}  // namespace tandem::coordinator
