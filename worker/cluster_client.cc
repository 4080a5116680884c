#include "worker/cluster_client.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/random/uniform_real_distribution.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tandem::worker {
namespace {

// What a coordinator may ask for; anything else is a fault of its own that must not make this worker spin or fall
// silent.
constexpr uint32_t kMinHeartbeatMs = 10;
constexpr uint32_t kMaxHeartbeatMs = 60000;
// Messages that wait for this thread, whose handlers do not block. Placements come minutes apart.
constexpr size_t kMaxEvents = 256;

// Trying again would give the same answer.
bool IsRefusal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kFailedPrecondition ||
         status.code() == absl::StatusCode::kInvalidArgument || status.code() == absl::StatusCode::kUnimplemented;
}

}  // namespace

ClusterClient::ClusterClient(ClusterClientOptions options, v1::Cluster::Stub& stub, ClusterHandlers handlers)
    : options_(std::move(options)), stub_(stub), handlers_(std::move(handlers)) {}

void ClusterClient::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tandem-member");
    Loop();
  });
}

void ClusterClient::Send(v1::WorkerMessage message) {
  std::shared_ptr<JoinStream> stream;
  {
    absl::MutexLock lock(&mu_);
    stream = stream_;
  }
  if (stream != nullptr) stream->Send(std::move(message));
}

void ClusterClient::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void ClusterClient::Loop() {
  absl::Duration backoff = options_.min_backoff;
  while (!stopping()) {
    absl::Status why;
    const bool was_member = Serve(&why);
    if (stopping()) return;
    if (was_member) handlers_.on_lost(why);
    if (IsRefusal(why)) {
      handlers_.on_refused(
          absl::Status(why.code(), absl::StrCat("coordinator ", options_.coordinator, ": ", why.message())));
      return;
    }
    if (was_member) backoff = options_.min_backoff;
    // Spread out, so that the workers of a cluster do not all come back in the same moment.
    const absl::Duration pause = backoff * absl::Uniform(random_, 0.75, 1.25);
    spdlog::warn("coordinator {}: {}; trying again in {}", options_.coordinator, std::string(why.message()),
                 absl::FormatDuration(absl::Trunc(pause, absl::Milliseconds(1))));
    if (Pause(pause)) return;
    backoff = std::min(2 * backoff, options_.max_backoff);
  }
}

bool ClusterClient::Serve(absl::Status* why) {
  welcomed_ = false;
  auto stream = std::make_shared<JoinStream>(
      stub_,
      [this](v1::CoordinatorMessage message) {
        Push({std::move(message), {}});
      },
      [this](absl::Status status) {
        if (status.ok()) status = absl::UnavailableError("it ended the membership");
        Push({std::nullopt, std::move(status)});
      });
  v1::WorkerMessage hello;
  *hello.mutable_hello() = options_.hello;
  stream->Send(std::move(hello));
  {
    absl::MutexLock lock(&mu_);
    stream_ = stream;
  }
  absl::Time deadline = absl::Now() + options_.welcome_timeout;
  for (;;) {
    Event event;
    if (NextEvent(deadline, &event)) {
      if (!event.message) {
        *why = event.ended;
        break;
      }
      const bool first = !welcomed_;
      Handle(*event.message);
      if (first && welcomed_) deadline = absl::Now();  // a heartbeat at once
    } else if (stopping()) {
      break;
    } else if (welcomed_) {
      SendHeartbeat();
      deadline = absl::Now() + heartbeat_interval_;
    } else {
      *why = absl::UnavailableError(absl::StrCat("no answer within ", absl::FormatDuration(options_.welcome_timeout)));
      break;
    }
  }
  {
    absl::MutexLock lock(&mu_);
    stream_ = nullptr;
  }
  stream->Close();
  absl::MutexLock lock(&mu_);
  events_.clear();
  return welcomed_;
}

void ClusterClient::Handle(const v1::CoordinatorMessage& message) {
  if (message.has_welcome()) {
    welcomed_ = true;
    heartbeat_interval_ =
        absl::Milliseconds(std::clamp(message.welcome().heartbeat_ms(), kMinHeartbeatMs, kMaxHeartbeatMs));
    handlers_.on_welcome(message.welcome());
  } else if (!welcomed_) {
    spdlog::warn("coordinator {}: a message before its welcome was passed over", options_.coordinator);
  } else if (message.has_place()) {
    handlers_.on_place(message.place());
  } else if (message.has_unload()) {
    handlers_.on_unload(message.unload());
  } else if (message.has_send_as()) {
    handlers_.on_send_as(message.send_as());
  }
}

void ClusterClient::SendHeartbeat() {
  v1::WorkerMessage message;
  *message.mutable_heartbeat() = handlers_.heartbeat();
  Send(std::move(message));
}

bool ClusterClient::NextEvent(absl::Time deadline, Event* event) {
  absl::MutexLock lock(&mu_);
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return stopping_ || !events_.empty(); };
  if (!mu_.AwaitWithDeadline(absl::Condition(&ready), deadline) || stopping_) return false;
  *event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void ClusterClient::Push(Event event) {
  absl::MutexLock lock(&mu_);
  if (events_.size() == kMaxEvents) {
    event = {std::nullopt, absl::ResourceExhaustedError("it sends more messages than can be handled")};
  }
  if (events_.size() <= kMaxEvents) events_.push_back(std::move(event));
}

bool ClusterClient::Pause(absl::Duration time) {
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&stopping_), time);
}

bool ClusterClient::stopping() {
  absl::MutexLock lock(&mu_);
  return stopping_;
}

}  // namespace tandem::worker
