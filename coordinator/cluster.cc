#include "coordinator/cluster.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation_format.h"
#include "proto/support/engine_convert.h"

namespace tandem::coordinator {
namespace {

// A pipeline that has served for this long was a good one: its failure is not held against the next.
constexpr std::chrono::seconds kGoodService{60};

// Of a worker's error message; it is printed on terminals and in logs.
constexpr size_t kMaxWorkerMessage = 1024;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// What a worker says it measured could be anything.
bool IsPlausible(const LinkCost& link) {
  const auto within = [](double value, double low, double high) { return value >= low && value <= high; };
  return within(link.latency_s, 1e-9, 60) && within(link.bytes_per_s, 1, 1e15);
}

bool HasSameStages(const Plan& a, const Plan& b) {
  return std::equal(a.stages.begin(), a.stages.end(), b.stages.begin(), b.stages.end(),
                    [](const StagePlan& x, const StagePlan& y) {
                      return x.name == y.name && x.first_layer == y.first_layer && x.end_layer == y.end_layer;
                    }) &&
         a.num_pages == b.num_pages;
}

}  // namespace

Cluster::Cluster(const ServedModel& model, ClusterOptions options, PipelineEnds& ends, DraftPlacing draft)
    : model_(model),
      options_(std::move(options)),
      ends_(ends),
      draft_(draft),
      registry_(options_.lease),
      next_epoch_(options_.first_epoch) {}

void Cluster::Join(uint64_t id, const v1::Hello& hello, std::shared_ptr<MemberSession> session, Time now) {
  const absl::StatusOr<const Member*> member = registry_.Add(id, hello, now);
  if (!member.ok()) {
    spdlog::warn("refused a worker: {}", Text(member.status()));
    session->End(member.status());
    return;
  }
  const std::string name = (*member)->hello.name();
  spdlog::info("worker {} joined from {}", name, hello.address());
  sessions_[id] = std::move(session);
  v1::CoordinatorMessage message;
  message.mutable_welcome()->set_worker_id(id);
  message.mutable_welcome()->set_name(name);
  message.mutable_welcome()->set_heartbeat_ms(static_cast<uint32_t>(options_.heartbeat.count()));
  message.mutable_welcome()->set_lease_ms(static_cast<uint32_t>(options_.lease.count()));
  Send(id, std::move(message));
  failures_ = 0;
  MembershipChanged(now);
}

void Cluster::OnMessage(uint64_t id, const v1::WorkerMessage& message, Time arrival, Time now) {
  if (registry_.Find(id) == nullptr) return;
  registry_.Heard(id, arrival);
  if (message.has_heartbeat()) {
    registry_.SetMemoryUsed(id, message.heartbeat().memory_used());
  } else if (message.has_progress()) {
    OnLoadProgress(id, message.progress(), now);
  } else if (message.has_done()) {
    OnLoadDone(id, message.done(), now);
  } else if (message.has_hello()) {
    sessions_.at(id)->End(absl::InvalidArgumentError("a second Hello on one stream"));
  }
}

void Cluster::Leave(uint64_t id, const absl::Status& why, Time now) {
  const Member* member = registry_.Find(id);
  if (member == nullptr) return;
  const std::string name = member->hello.name();
  spdlog::warn("worker {} left: {}", name, Text(why));
  sessions_.at(id)->End(absl::UnavailableError(why.message()));
  sessions_.erase(id);
  std::erase_if(links_, [&](const auto& link) { return link.first.first == name || link.first.second == name; });
  registry_.Remove(id);
  if (const Placed* placed = PlacedWith(id); placed != nullptr) {
    TearDown(placed->epoch, absl::UnavailableError(absl::StrCat("worker ", name, " left: ", why.message())));
  }
  MembershipChanged(now);
}

void Cluster::OnPipelineBroken(uint64_t epoch, const absl::Status& why, Time now) {
  if (FindPlaced(epoch) != nullptr) Fail(epoch, why, now);
}

void Cluster::Tick(Time now) {
  for (uint64_t id : registry_.Expired(now)) {
    Leave(id, absl::DeadlineExceededError(absl::StrCat("nothing heard for ", options_.lease.count(), " ms")), now);
  }
  CheckLoading(now);
  if (plan_at_ && now >= *plan_at_) {
    plan_at_.reset();
    PlaceOrMove(now);
  }
  if (serves()) {
    explained_.clear();
  } else if (std::string detail = Detail(); detail != explained_) {
    explained_ = std::move(detail);
    ends_.Explain(explained_);
  }
}

void Cluster::Stop() {
  TearDownAll(absl::UnavailableError("the coordinator is stopping"));
  for (const auto& [id, session] : sessions_) session->End(absl::UnavailableError("the coordinator is stopping"));
  sessions_.clear();
}

bool Cluster::is_loading() const {
  return std::any_of(placed_.begin(), placed_.end(),
                     [](const auto& entry) { return !entry.second.serving && !entry.second.drafts; });
}

void Cluster::MembershipChanged(Time now) { plan_at_ = now + options_.settle; }

Cluster::Placed* Cluster::FindPlaced(uint64_t epoch) {
  const auto found = placed_.find(epoch);
  return found == placed_.end() ? nullptr : &found->second;
}

const Cluster::Placed* Cluster::PlacedWith(uint64_t member) const {
  const auto found = std::find_if(placed_.begin(), placed_.end(),
                                  [member](const auto& entry) { return entry.second.loads.count(member) > 0; });
  return found == placed_.end() ? nullptr : &found->second;
}

const Cluster::Placed* Cluster::Draft() const {
  const auto found =
      std::find_if(placed_.begin(), placed_.end(), [](const auto& entry) { return entry.second.drafts; });
  return found == placed_.end() ? nullptr : &found->second;
}

bool Cluster::serves() const {
  return std::any_of(placed_.begin(), placed_.end(),
                     [](const auto& entry) { return entry.second.serving && !entry.second.drafts; });
}

std::vector<Plan> Cluster::CurrentPlans(const PlanInput& input) const {
  std::vector<Plan> current;
  for (const auto& [epoch, placed] : placed_) {
    if (placed.drafts) continue;
    current.push_back(placed.plan);
    PlanHops(input, &current.back());  // as its links are known now: so are those of candidates
  }
  return current;
}

void Cluster::PlaceOrMove(Time now) {
  if (static_cast<int32_t>(registry_.members().size()) < options_.min_workers) return;
  const absl::StatusOr<PlanInput> input = MakeInput(options_.plan.context);
  const absl::StatusOr<ClusterPlan> plan = input.ok() ? PlanCluster(*input) : input.status();
  const std::vector<Plan> current = input.ok() ? CurrentPlans(*input) : std::vector<Plan>();
  if (!plan.ok()) {
    if (serves()) return;  // what serves, stays
    problem_ = Text(plan.status());
    spdlog::warn("no placement: {}", problem_);
    return;
  }
  std::vector<Plan> to_place = plan->pipelines;
  if (!current.empty()) {
    std::vector<Plan> all = PlanMore(*input, current);
    std::vector<Plan> more = all;
    all.insert(all.end(), current.begin(), current.end());
    if (!IsWorthMoving(all, to_place)) {
      to_place = std::move(more);
    } else if (is_loading()) {
      plan_when_loaded_ = true;  // a load under way is not disturbed
      return;
    } else {
      GiveUpFor(&to_place);
    }
  }
  for (Plan& pipeline : to_place) Place(std::move(pipeline), /*drafts=*/false, now);
  if (draft_.model != nullptr && Draft() == nullptr) PlaceDraft(now);
  problem_.clear();
}

void Cluster::GiveUpFor(std::vector<Plan>* better) {
  std::vector<uint64_t> given_up;
  for (const auto& entry : placed_) {
    const Placed& placed = entry.second;
    if (placed.drafts) continue;
    // One that stays as it is goes on.
    const auto same = std::find_if(better->begin(), better->end(),
                                   [&](const Plan& plan) { return HasSameStages(plan, placed.plan); });
    if (same != better->end()) {
      better->erase(same);
    } else {
      given_up.push_back(placed.epoch);
    }
  }
  spdlog::info("{} pipeline(s) given up for {} that serve better", given_up.size(), better->size());
  for (uint64_t epoch : given_up) TearDown(epoch, absl::CancelledError("layers move to a better placement"));
}

void Cluster::PlaceDraft(Time now) {
  absl::StatusOr<PlanInput> input = MakePlanInput(draft_.model->file(), draft_.model->spec(), draft_.plan, {});
  if (!input.ok()) return;  // it runs in this process, so it is hardly to blame
  std::optional<Plan> best;
  const std::vector<PlanDevice> devices = Devices();
  auto member = registry_.members().begin();
  for (size_t i = 0; i < devices.size(); ++i, ++member) {
    if (PlacedWith(member->first) != nullptr) continue;
    input->devices = {devices[i]};
    absl::StatusOr<Plan> plan = PlanPlacement(*input);
    if (!plan.ok() || (best && plan->decode_tokens_per_s <= best->decode_tokens_per_s)) continue;
    best = *std::move(plan);
    best->stages[0].device = static_cast<int32_t>(i);
  }
  if (best) Place(*std::move(best), /*drafts=*/true, now);
}

std::vector<PlanDevice> Cluster::Devices() const {
  std::vector<PlanDevice> devices;
  for (const auto& [id, member] : registry_.members()) {
    const v1::Device& device = member.hello.device();
    PlanDevice to;
    to.name = member.hello.name();
    to.memory_bytes = device.memory_bytes();
    to.bandwidth = device.memory_bandwidth();
    to.int8_macs = device.int8_macs();
    to.threads = static_cast<int32_t>(std::min<uint32_t>(device.threads(), 1024));
    devices.push_back(std::move(to));
  }
  return devices;
}

absl::StatusOr<PlanInput> Cluster::MakeInput(int32_t context) const {
  PlanOptions options = options_.plan;
  options.context = context;
  options.min_stages = options_.min_workers;
  TANDEM_ASSIGN_OR_RETURN(PlanInput input,
                          MakePlanInput(model_.file(), model_.spec(), options, Devices(), model_.adapter_files()));
  input.links = links_;
  // A hop that was not measured is taken for as slow as any that was: layers are not moved on a mere hope.
  for (auto it = links_.begin(); it != links_.end(); ++it) {
    const LinkCost& link = it->second;
    const bool first = it == links_.begin();
    input.link.latency_s = first ? link.latency_s : std::max(input.link.latency_s, link.latency_s);
    input.link.bytes_per_s = first ? link.bytes_per_s : std::min(input.link.bytes_per_s, link.bytes_per_s);
  }
  return input;
}

void Cluster::Place(Plan plan, bool drafts, Time now) {
  std::vector<uint64_t> ids;
  for (const auto& [id, member] : registry_.members()) ids.push_back(id);
  const Placed* const draft = Draft();
  if (draft != nullptr && std::any_of(plan.stages.begin(), plan.stages.end(),
                                      [&](const StagePlan& stage) { return ids[stage.device] == draft->members[0]; })) {
    TearDown(draft->epoch, absl::CancelledError("its worker is to hold layers of the model"));
  }
  Placed& placed = placed_[next_epoch_];
  placed.epoch = next_epoch_++;
  placed.drafts = drafts;
  spdlog::info("placing {} on {} worker(s)\n{}", ModelOf(placed).name(), plan.stages.size(), FormatPlan(plan));
  placed.plan = std::move(plan);
  placed.last_progress = now;
  for (const StagePlan& stage : placed.plan.stages) {
    placed.members.push_back(ids[stage.device]);
    placed.loads[ids[stage.device]];
  }
  // Before any worker dials.
  EndsOf(placed).Serve(placed.epoch);
  for (size_t stage = 0; stage < placed.members.size(); ++stage) {
    v1::CoordinatorMessage message;
    *message.mutable_place() = PlaceMessage(placed, stage);
    Send(placed.members[stage], std::move(message));
  }
}

void Cluster::OnLoadProgress(uint64_t id, const v1::LoadProgress& progress, Time now) {
  Placed* const placed = FindPlaced(progress.epoch());
  if (placed == nullptr || placed->loads.count(id) == 0) return;
  Load& load = placed->loads.at(id);
  if (progress.bytes_done() > load.bytes_done) placed->last_progress = now;
  load.bytes_done = progress.bytes_done();
  load.bytes_total = progress.bytes_total();
}

void Cluster::CheckLoading(Time now) {
  for (auto next = placed_.begin(); next != placed_.end();) {
    const auto& [epoch, placed] = *next++;  // it may end
    if (placed.serving || now - placed.last_progress < options_.load_stall) continue;
    std::vector<std::string> waiting;
    for (const auto& [id, load] : placed.loads) {
      if (!load.done) waiting.push_back(registry_.Find(id)->hello.name());
    }
    Fail(epoch,
         absl::DeadlineExceededError(absl::StrCat("loading stands still for ", options_.load_stall.count() / 1000,
                                                  " s; waiting for ", absl::StrJoin(waiting, ", "))),
         now);
  }
}

void Cluster::OnLoadDone(uint64_t id, const v1::LoadDone& done, Time now) {
  Placed* const placed = FindPlaced(done.epoch());
  if (placed == nullptr || placed->serving || placed->loads.count(id) == 0) return;
  const std::string& name = registry_.Find(id)->hello.name();
  if (done.code() != 0) {
    const std::string why = absl::Utf8SafeCEscape(done.message().substr(0, kMaxWorkerMessage));
    const absl::Status failed =
        absl::UnavailableError(absl::StrCat("worker ", name, " could not load its layers: ", why));
    return Fail(placed->epoch, failed, now);
  }
  spdlog::info("worker {} has loaded", name);
  placed->loads.at(id).done = done;
  placed->last_progress = now;
  const auto loaded = [](const auto& entry) { return entry.second.done.has_value(); };
  if (std::all_of(placed->loads.begin(), placed->loads.end(), loaded)) StartServing(placed, now);
}

void Cluster::ReviseHops(Placed* placed) {
  for (size_t i = 0; i + 1 < placed->members.size(); ++i) {
    const v1::LoadDone& done = *placed->loads.at(placed->members[i]).done;
    // Half of the round trip is the way there.
    const LinkCost link = {.latency_s = done.link_round_trip_s() / 2, .bytes_per_s = done.link_bytes_per_s()};
    const std::vector<StagePlan>& stages = placed->plan.stages;
    if (IsPlausible(link)) links_[{stages[i].name, stages[i + 1].name}] = link;
  }
  const absl::StatusOr<PlanInput> input = MakeInput(placed->plan.context);
  if (!input.ok()) return;  // it was fine when this was placed, so only a member that has left since can be the reason
  const Plan before = placed->plan;
  PlanHops(*input, &placed->plan);
  for (size_t i = 0; i + 1 < placed->members.size(); ++i) {
    const StagePlan& stage = placed->plan.stages[i];
    if (stage.sends == before.stages[i].sends) continue;
    spdlog::info("worker {} sends activations as {}", stage.name, engine::ActivationTypeName(stage.sends));
    v1::CoordinatorMessage message;
    message.mutable_send_as()->set_epoch(placed->epoch);
    message.mutable_send_as()->set_activation_type(proto_support::ActivationTypeToProto(stage.sends));
    Send(placed->members[i], std::move(message));
  }
}

void Cluster::StartServing(Placed* placed, Time now) {
  if (!placed->drafts) ReviseHops(placed);
  PipelineSpec spec;
  spec.epoch = placed->epoch;
  spec.num_stages = static_cast<int32_t>(placed->members.size());
  spec.num_pages = placed->plan.num_pages;
  spec.page_tokens = placed->plan.page_tokens;
  spec.max_step_tokens = placed->plan.max_step_tokens;
  spec.context = placed->plan.context;
  spec.tokens_per_s = placed->plan.tokens_per_s;
  const absl::Status attached = EndsOf(*placed).Attach(spec, registry_.Find(placed->members[0])->hello.address());
  if (!attached.ok()) return Fail(placed->epoch, attached, now);
  spdlog::info("serving {} with {} stage(s), epoch {}", ModelOf(*placed).name(), spec.num_stages, spec.epoch);
  placed->serving = true;
  placed->served_since = now;
  if (std::exchange(plan_when_loaded_, false)) plan_at_ = now;
}

void Cluster::TearDown(uint64_t epoch, const absl::Status& why) {
  const Placed placed = std::move(placed_.at(epoch));
  placed_.erase(epoch);
  EndsOf(placed).Detach(epoch, why);
  v1::CoordinatorMessage message;
  message.mutable_unload()->set_epoch(epoch);
  for (uint64_t id : placed.members) Send(id, message);
  if (!absl::IsCancelled(why)) problem_ = Text(why);
}

void Cluster::TearDownAll(const absl::Status& why) {
  while (!placed_.empty()) TearDown(placed_.begin()->first, why);
}

void Cluster::Fail(uint64_t epoch, const absl::Status& why, Time now) {
  spdlog::error("the pipeline of epoch {} failed: {}", epoch, Text(why));
  const Placed& placed = placed_.at(epoch);
  if (placed.serving && now - placed.served_since >= kGoodService) failures_ = 0;
  auto pause = options_.first_retry;
  for (int i = 0; i < failures_ && pause < options_.longest_retry; ++i) pause *= 2;
  ++failures_;
  TearDown(epoch, why);
  plan_at_ = now + std::min(pause, options_.longest_retry);
}

void Cluster::Send(uint64_t id, v1::CoordinatorMessage message) const {
  if (auto it = sessions_.find(id); it != sessions_.end()) it->second->Send(std::move(message));
}

std::string Cluster::Detail() const {
  if (serves()) return problem_;
  if (!placed_.empty()) return "loading";
  const int64_t missing = options_.min_workers - static_cast<int64_t>(registry_.members().size());
  if (missing <= 0) return problem_.empty() ? "about to place layers" : problem_;
  std::string detail = absl::StrCat("waiting for ", missing, missing == 1 ? " more worker" : " more workers");
  if (!problem_.empty()) absl::StrAppend(&detail, " (", problem_, ")");
  return detail;
}

}  // namespace tandem::coordinator
