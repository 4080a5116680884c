#include "coordinator/cluster_manager.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace tandem::coordinator {
namespace {

// Fine enough for ClusterOptions::settle.
constexpr std::chrono::milliseconds kTick{100};

}  // namespace

ClusterManager::ClusterManager(const ServedModel& model, ClusterOptions options, PipelineEnds& ends, DraftPlacing draft)
    : tick_(std::min(kTick, options.heartbeat)),
      cluster_(model, std::move(options), ends, draft),
      state_(cluster_.State()) {}

ClusterManager::~ClusterManager() { Stop(); }

void ClusterManager::Start(const std::string& address) {
  cluster_.set_address(address);
  MutexLock lock(&stop_mu_);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tandem-cluster");
    Run();
  });
}

bool ClusterManager::Post(Event event, bool bounded) {
  MutexLock lock(&mu_);
  if (stopping_ || (bounded && events_.size() >= kMaxQueued)) return false;
  events_.push_back(std::move(event));
  wake_.NotifyOne();
  return true;
}

uint64_t ClusterManager::Join(v1::Hello hello, std::shared_ptr<MemberSession> session) {
  const uint64_t id = next_id_++;
  const auto join = [this, id, hello = std::move(hello), session](Time now) { cluster_.Join(id, hello, session, now); };
  if (!Post(join, /*bounded=*/true)) session->End(absl::UnavailableError("the coordinator is stopping or overloaded"));
  return id;
}

bool ClusterManager::OnMessage(uint64_t id, v1::WorkerMessage message) {
  const Time arrival = SteadyClock().Now();
  return Post(
      [this, id, arrival, message = std::move(message)](Time now) { cluster_.OnMessage(id, message, arrival, now); },
      /*bounded=*/true);
}

void ClusterManager::Leave(uint64_t id, absl::Status why) {
  Post([this, id, why = std::move(why)](Time now) { cluster_.Leave(id, why, now); }, /*bounded=*/false);
}

void ClusterManager::OnPipelineBroken(uint64_t epoch, absl::Status why) {
  Post([this, epoch, why = std::move(why)](Time now) { cluster_.OnPipelineBroken(epoch, why, now); },
       /*bounded=*/false);
}

v1::ClusterState ClusterManager::state() const {
  MutexLock lock(&mu_);
  return state_;
}

void ClusterManager::Plan(int32_t context, PlanCallback done) {
  const auto plan = [this, context, done](Time) { done(cluster_.PlanFor(context)); };
  if (!Post(plan, /*bounded=*/true)) done(absl::UnavailableError("the coordinator is stopping or overloaded"));
}

void ClusterManager::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyOne();
  }
  MutexLock lock(&stop_mu_);
  if (thread_.joinable()) thread_.join();
}

void ClusterManager::Run() {
  const SteadyClock clock;
  bool stopping = false;
  while (!stopping) {
    std::deque<Event> events;
    {
      MutexLock lock(&mu_);
      if (events_.empty() && !stopping_) wake_.WaitFor(&mu_, tick_);
      events.swap(events_);
      stopping = stopping_;
    }
    for (const Event& event : events) event(clock.Now());
    if (stopping) {
      cluster_.Stop();
    } else {
      cluster_.Tick(clock.Now());
    }
    v1::ClusterState state = cluster_.State();
    MutexLock lock(&mu_);
    state_ = std::move(state);
  }
}

}  // namespace tandem::coordinator
