#include "cli/bench/load_client.h"

#include <algorithm>
#include <utility>

#include <grpcpp/support/client_callback.h>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/support/status_convert.h"

namespace tandem::cli {
namespace {

constexpr double kTickS = 0.1;  // progress is told this often

}  // namespace

// One request under way. Deletes itself when gRPC is done with it.
class LoadClient::Call : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Call(LoadClient& owner, uint64_t number, const Arrival& arrival, RequestRecord record,
       std::shared_ptr<grpc::ClientContext> context)
      : owner_(owner), number_(number), request_(arrival.request), context_(std::move(context)), record_(record) {}

  void Start() {
    owner_.stub_->async()->Generate(context_.get(), &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone comes
    Take();
    response_.Clear();
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    record_.end_s = owner_.Now();
    record_.status = proto_support::FromGrpc(status);
    if (record_.answer_tokens > record_.wanted_tokens) {
      record_.status = absl::InternalError(
          absl::StrCat("the server sent more than the ", record_.wanted_tokens, " tokens that were asked for"));
    }
    LoadClient& owner = owner_;
    const uint64_t number = number_;
    RequestRecord record = std::move(record_);
    delete this;  // before the owner may end
    owner.OnEnded(number, std::move(record));
  }

 private:
  void Take() {
    const double now_s = owner_.Now();
    if (response_.has_usage()) {
      record_.prompt_tokens = response_.usage().prompt_tokens();
      record_.cached_tokens = response_.usage().cached_tokens();
      record_.guessed_tokens = response_.usage().guessed_tokens();
      record_.right_guesses = response_.usage().right_guesses();
    }
    const int count = response_.ids_size();
    if (count == 0) return;
    owner_.tokens_ += count;
    record_.answer_tokens += count;
    if (record_.answer_tokens > record_.wanted_tokens) return context_->TryCancel();
    int gaps = count;
    if (record_.answer_tokens == static_cast<uint32_t>(count)) {
      record_.first_token_s = last_s_ = now_s;
      --gaps;
    }
    record_.gaps_s.insert(record_.gaps_s.end(), gaps, (now_s - last_s_) / std::max(gaps, 1));
    last_s_ = now_s;
  }

  LoadClient& owner_;
  const uint64_t number_;
  const v1::GenerateRequest request_;
  const std::shared_ptr<grpc::ClientContext> context_;
  v1::GenerateResponse response_;
  RequestRecord record_;
  double last_s_ = 0;  // when tokens came last
};

double LoadClient::Now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

std::vector<RequestRecord> LoadClient::Run(Workload& workload, const LoadLimits& limits, Interrupt& interrupt,
                                           const std::function<void(const LoadProgress&)>& on_progress) {
  next_ = workload.Next();
  start_ = std::chrono::steady_clock::now();
  interrupt.OnInterrupt([this] { CancelAll(); });
  while (Wait(SendDue(workload, limits), limits)) on_progress(progress());
  interrupt.OnInterrupt({});
  on_progress(progress());
  absl::MutexLock lock(&mu_);
  return std::move(records_);
}

bool LoadClient::SendDue(Workload& workload, const LoadLimits& limits) {
  while (true) {
    const double now_s = Now();
    {
      absl::MutexLock lock(&mu_);
      changed_ = false;
      if (!next_ || interrupted_ || records_.size() >= limits.requests) return false;
      if (limits.clients > 0 && open_.size() >= static_cast<size_t>(limits.clients)) return now_s < limits.duration_s;
    }
    if (limits.clients > 0) next_->at_s = now_s;
    if (next_->at_s >= limits.duration_s) return false;
    if (next_->at_s > now_s) return true;
    Send(*next_, limits);
    next_ = workload.Next();
  }
}

void LoadClient::Send(const Arrival& arrival, const LoadLimits& limits) {
  auto context = std::make_shared<grpc::ClientContext>();
  if (limits.request_timeout_s < std::numeric_limits<double>::infinity()) {
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::system_clock::duration>(
                              std::chrono::duration<double>(limits.request_timeout_s)));
  }
  RequestRecord record;
  record.due_s = arrival.at_s;
  record.sent_s = Now();
  record.prompt_tokens = static_cast<uint32_t>(arrival.request.ids().ids_size());
  record.wanted_tokens = arrival.request.max_tokens();
  uint64_t number = 0;
  {
    absl::MutexLock lock(&mu_);
    if (interrupted_) return;
    number = records_.size();
    records_.push_back(record);
    open_[number] = context;
  }
  // Calls into gRPC may call back at once, so never under the lock.
  (new Call(*this, number, arrival, std::move(record), std::move(context)))->Start();
}

bool LoadClient::Wait(bool more, const LoadLimits& limits) {
  double wait_s = kTickS;
  if (more && limits.clients == 0 && next_) wait_s = std::clamp(next_->at_s - Now(), 0.0, kTickS);
  std::vector<std::shared_ptr<grpc::ClientContext>> released;  // destroyed after the lock
  absl::MutexLock lock(&mu_);
  released.swap(released_);
  if (!more && open_.empty()) return false;
  if (!changed_) wake_.WaitWithTimeout(&mu_, absl::Seconds(wait_s));
  return true;
}

void LoadClient::CancelAll() {
  std::vector<std::shared_ptr<grpc::ClientContext>> contexts;
  {
    absl::MutexLock lock(&mu_);
    interrupted_ = changed_ = true;
    for (const auto& [number, context] : open_) contexts.push_back(context);
    wake_.Signal();
  }
  for (const auto& context : contexts) context->TryCancel();
}

void LoadClient::OnEnded(uint64_t number, RequestRecord record) {
  absl::MutexLock lock(&mu_);
  record.cut_off = interrupted_ && absl::IsCancelled(record.status);
  if (!record.cut_off && !record.status.ok()) ++failed_;
  records_[number] = std::move(record);
  const auto it = open_.find(number);
  released_.push_back(std::move(it->second));
  open_.erase(it);
  changed_ = true;
  wake_.Signal();
}

LoadProgress LoadClient::progress() const {
  LoadProgress progress;
  progress.elapsed_s = Now();
  progress.tokens = tokens_;
  absl::MutexLock lock(&mu_);
  progress.sent = records_.size();
  progress.ended = records_.size() - open_.size();
  progress.failed = failed_;
  return progress;
}

}  // namespace tandem::cli
