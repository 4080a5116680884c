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

v1::ModelRef RefTo(const std::string& name, const std::string& fingerprint, const engine::GgufFile& file) {
  v1::ModelRef ref;
  ref.set_name(name);
  ref.set_fingerprint(fingerprint);
  ref.set_file_bytes(file.file_bytes());
  ref.set_header_bytes(file.header().size());
  return ref;
}

}  // namespace

Cluster::Cluster(const ServedModel& model, ClusterOptions options, PipelineEnds& ends)
    : model_(model),
      options_(std::move(options)),
      ends_(ends),
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
  if (placed_ && std::count(placed_->members.begin(), placed_->members.end(), id) > 0) {
    TearDown(absl::UnavailableError(absl::StrCat("worker ", name, " left: ", why.message())));
  }
  MembershipChanged(now);
}

void Cluster::OnPipelineBroken(uint64_t epoch, const absl::Status& why, Time now) {
  if (placed_ && placed_->epoch == epoch) Fail(why, now);
}

void Cluster::Tick(Time now) {
  for (uint64_t id : registry_.Expired(now)) {
    Leave(id, absl::DeadlineExceededError(absl::StrCat("nothing heard for ", options_.lease.count(), " ms")), now);
  }
  CheckLoading(now);
  // A load under way is not disturbed; what changed is considered when it has ended.
  const bool loading = placed_ && !placed_->serving;
  if (plan_at_ && now >= *plan_at_ && !loading) {
    plan_at_.reset();
    PlaceOrMove(now);
  }
  if (placed_ && placed_->serving) {
    explained_.clear();
  } else if (std::string detail = Detail(); detail != explained_) {
    explained_ = std::move(detail);
    ends_.Explain(explained_);
  }
}

void Cluster::Stop() {
  TearDown(absl::UnavailableError("the coordinator is stopping"));
  for (const auto& [id, session] : sessions_) session->End(absl::UnavailableError("the coordinator is stopping"));
  sessions_.clear();
}

void Cluster::MembershipChanged(Time now) { plan_at_ = now + options_.settle; }

void Cluster::PlaceOrMove(Time now) {
  if (static_cast<int32_t>(registry_.members().size()) < options_.min_workers) return;
  absl::StatusOr<Plan> plan = MakePlan(options_.plan.context);
  if (!plan.ok()) {
    if (placed_) return;  // what serves, stays
    problem_ = Text(plan.status());
    spdlog::warn("no placement: {}", problem_);
    return;
  }
  if (placed_) {
    if (!IsWorthMoving(placed_->plan, *plan)) return;
    TearDown(absl::CancelledError("layers move to a better placement"));
  }
  Place(*std::move(plan), now);
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

absl::StatusOr<Plan> Cluster::MakePlan(int32_t context) const {
  TANDEM_ASSIGN_OR_RETURN(const PlanInput input, MakeInput(context));
  return PlanPlacement(input);
}

absl::StatusOr<v1::Placement> Cluster::PlanFor(int32_t context) const {
  if (registry_.members().empty()) return absl::FailedPreconditionError("no workers have joined yet");
  TANDEM_ASSIGN_OR_RETURN(const Plan plan, MakePlan(context > 0 ? context : options_.plan.context));
  return PlacementProto(plan, nullptr);
}

void Cluster::Place(Plan plan, Time now) {
  spdlog::info("placing {} on {} worker(s)\n{}", model_.name(), plan.stages.size(), FormatPlan(plan));
  std::vector<uint64_t> ids;
  for (const auto& [id, member] : registry_.members()) ids.push_back(id);
  problem_.clear();
  placed_ = Placed();
  placed_->epoch = next_epoch_++;
  placed_->plan = std::move(plan);
  placed_->last_progress = now;
  loads_.clear();
  for (const StagePlan& stage : placed_->plan.stages) {
    placed_->members.push_back(ids[stage.device]);
    loads_[ids[stage.device]];
  }
  // Before any worker dials.
  ends_.Serve(placed_->epoch);
  for (size_t stage = 0; stage < placed_->members.size(); ++stage) {
    v1::CoordinatorMessage message;
    *message.mutable_place() = PlaceMessage(*placed_, stage);
    Send(placed_->members[stage], std::move(message));
  }
}

v1::Place Cluster::PlaceMessage(const Placed& placed, size_t stage) const {
  const StagePlan& plan = placed.plan.stages[stage];
  v1::Place place;
  place.set_epoch(placed.epoch);
  *place.mutable_model() = ModelProto();
  place.set_first_layer(plan.first_layer);
  place.set_end_layer(plan.end_layer);
  place.set_stage(static_cast<uint32_t>(stage));
  place.set_num_stages(static_cast<uint32_t>(placed.members.size()));
  const bool last = stage + 1 == placed.members.size();
  place.set_next_address(last ? address_ : registry_.Find(placed.members[stage + 1])->hello.address());
  place.mutable_kv()->set_type(proto_support::KvTypeToProto(options_.plan.kv_type));
  place.mutable_kv()->set_page_tokens(placed.plan.page_tokens);
  place.mutable_kv()->set_num_pages(placed.plan.num_pages);
  place.set_max_step_tokens(placed.plan.max_step_tokens);
  if (!last) place.set_activation_type(proto_support::ActivationTypeToProto(plan.sends));
  for (const ServedAdapter& adapter : model_.adapters()) {
    *place.add_adapters() = RefTo(adapter.name, adapter.fingerprint, *adapter.file);
  }
  return place;
}

void Cluster::OnLoadProgress(uint64_t id, const v1::LoadProgress& progress, Time now) {
  if (!placed_ || progress.epoch() != placed_->epoch) return;
  const auto load = loads_.find(id);
  if (load == loads_.end()) return;
  if (progress.bytes_done() > load->second.bytes_done) placed_->last_progress = now;
  load->second.bytes_done = progress.bytes_done();
  load->second.bytes_total = progress.bytes_total();
}

void Cluster::CheckLoading(Time now) {
  if (!placed_ || placed_->serving || now - placed_->last_progress < options_.load_stall) return;
  std::vector<std::string> waiting;
  for (const auto& [id, load] : loads_) {
    if (!load.done) waiting.push_back(registry_.Find(id)->hello.name());
  }
  Fail(absl::DeadlineExceededError(absl::StrCat("loading stands still for ", options_.load_stall.count() / 1000,
                                                " s; waiting for ", absl::StrJoin(waiting, ", "))),
       now);
}

void Cluster::OnLoadDone(uint64_t id, const v1::LoadDone& done, Time now) {
  if (!placed_ || placed_->serving || done.epoch() != placed_->epoch) return;
  auto load = loads_.find(id);
  if (load == loads_.end()) return;
  const std::string& name = registry_.Find(id)->hello.name();
  if (done.code() != 0) {
    const std::string why = absl::Utf8SafeCEscape(done.message().substr(0, kMaxWorkerMessage));
    return Fail(absl::UnavailableError(absl::StrCat("worker ", name, " could not load its layers: ", why)), now);
  }
  spdlog::info("worker {} has loaded", name);
  load->second.done = done;
  placed_->last_progress = now;
  const auto loaded = [](const auto& entry) { return entry.second.done.has_value(); };
  if (std::all_of(loads_.begin(), loads_.end(), loaded)) StartServing(now);
}

void Cluster::ReviseHops() {
  for (size_t i = 0; i + 1 < placed_->members.size(); ++i) {
    const v1::LoadDone& done = *loads_.at(placed_->members[i]).done;
    // Half of the round trip is the way there.
    const LinkCost link = {.latency_s = done.link_round_trip_s() / 2, .bytes_per_s = done.link_bytes_per_s()};
    const std::vector<StagePlan>& stages = placed_->plan.stages;
    if (IsPlausible(link)) links_[{stages[i].name, stages[i + 1].name}] = link;
  }
  const absl::StatusOr<PlanInput> input = MakeInput(placed_->plan.context);
  if (!input.ok()) return;  // it was fine when this was placed, so only a member that has left since can be the reason
  const Plan before = placed_->plan;
  PlanHops(*input, &placed_->plan);
  for (size_t i = 0; i + 1 < placed_->members.size(); ++i) {
    const StagePlan& stage = placed_->plan.stages[i];
    if (stage.sends == before.stages[i].sends) continue;
    spdlog::info("worker {} sends activations as {}", stage.name, engine::ActivationTypeName(stage.sends));
    v1::CoordinatorMessage message;
    message.mutable_send_as()->set_epoch(placed_->epoch);
    message.mutable_send_as()->set_activation_type(proto_support::ActivationTypeToProto(stage.sends));
    Send(placed_->members[i], std::move(message));
  }
}

void Cluster::StartServing(Time now) {
  ReviseHops();
  PipelineSpec spec;
  spec.epoch = placed_->epoch;
  spec.num_stages = static_cast<int32_t>(placed_->members.size());
  spec.num_pages = placed_->plan.num_pages;
  spec.page_tokens = placed_->plan.page_tokens;
  spec.max_step_tokens = placed_->plan.max_step_tokens;
  spec.context = placed_->plan.context;
  const absl::Status attached = ends_.Attach(spec, registry_.Find(placed_->members[0])->hello.address());
  if (!attached.ok()) return Fail(attached, now);
  spdlog::info("serving {} with {} stage(s), epoch {}", model_.name(), spec.num_stages, spec.epoch);
  placed_->serving = true;
  placed_->served_since = now;
}

void Cluster::TearDown(const absl::Status& why) {
  if (!placed_) return;
  ends_.Detach(placed_->epoch, why);
  v1::CoordinatorMessage message;
  message.mutable_unload()->set_epoch(placed_->epoch);
  for (uint64_t id : placed_->members) Send(id, message);
  placed_.reset();
  loads_.clear();
  problem_ = Text(why);
}

void Cluster::Fail(const absl::Status& why, Time now) {
  spdlog::error("the pipeline failed: {}", Text(why));
  if (placed_->serving && now - placed_->served_since >= kGoodService) failures_ = 0;
  auto pause = options_.first_retry;
  for (int i = 0; i < failures_ && pause < options_.longest_retry; ++i) pause *= 2;
  ++failures_;
  TearDown(why);
  plan_at_ = now + std::min(pause, options_.longest_retry);
}

void Cluster::Send(uint64_t id, v1::CoordinatorMessage message) const {
  if (auto it = sessions_.find(id); it != sessions_.end()) it->second->Send(std::move(message));
}

std::string Cluster::Detail() const {
  if (placed_) return placed_->serving ? "" : "loading";
  const int64_t missing = options_.min_workers - static_cast<int64_t>(registry_.members().size());
  if (missing <= 0) return problem_.empty() ? "about to place layers" : problem_;
  std::string detail = absl::StrCat("waiting for ", missing, missing == 1 ? " more worker" : " more workers");
  if (!problem_.empty()) absl::StrAppend(&detail, " (", problem_, ")");
  return detail;
}

v1::ModelRef Cluster::ModelProto() const { return RefTo(model_.name(), model_.fingerprint(), model_.file()); }

v1::ClusterState Cluster::State() const {
  v1::ClusterState state;
  *state.mutable_model() = ModelProto();
  state.set_detail(Detail());
  if (!placed_) {
    state.set_phase(v1::PHASE_WAITING);
  } else {
    state.set_phase(placed_->serving ? v1::PHASE_SERVING : v1::PHASE_LOADING);
    *state.mutable_placement() = PlacementProto(placed_->plan, &*placed_);
  }
  for (const auto& [id, member] : registry_.members()) {
    v1::Worker* worker = state.add_workers();
    worker->set_id(id);
    worker->set_name(member.hello.name());
    worker->set_address(member.hello.address());
    *worker->mutable_device() = member.hello.device();
    worker->set_memory_used(member.memory_used);
    const auto load = loads_.find(id);
    if (load == loads_.end()) continue;
    worker->set_load_bytes_done(load->second.bytes_done);
    worker->set_load_bytes_total(load->second.bytes_total);
    worker->set_from_local_file(load->second.done && load->second.done->from_local_file());
  }
  return state;
}

v1::Placement Cluster::PlacementProto(const Plan& plan, const Placed* placed) const {
  v1::Placement to;
  to.set_epoch(placed != nullptr ? placed->epoch : 0);
  to.set_predicted_decode_tokens_per_s(plan.decode_tokens_per_s);
  to.set_predicted_prefill_tokens_per_s(plan.prefill_tokens_per_s);
  to.set_num_pages(plan.num_pages);
  to.set_page_tokens(plan.page_tokens);
  to.set_context(plan.context);
  for (const std::string& name : plan.unused) to.add_unused(name);
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& from = plan.stages[i];
    v1::StagePlacement* stage = to.add_stages();
    stage->set_worker(from.name);
    stage->set_first_layer(from.first_layer);
    stage->set_end_layer(from.end_layer);
    stage->set_weight_bytes(from.memory.weights);
    stage->set_kv_bytes(from.memory.kv);
    stage->set_scratch_bytes(from.memory.scratch);
    stage->set_memory_bytes(from.memory_bytes);
    stage->set_predicted_decode_s(from.decode_s);
    if (i + 1 < plan.stages.size()) {
      stage->set_activation_type(proto_support::ActivationTypeToProto(from.sends));
      stage->set_predicted_hop_s(from.hop_s);
      stage->set_predicted_step_hop_s(from.chunk_hop_s);
    }
    if (placed == nullptr) continue;
    // What is really held replaces what was planned.
    const auto load = loads_.find(placed->members[i]);
    if (load == loads_.end() || !load->second.done) continue;
    stage->set_weight_bytes(load->second.done->weight_bytes());
    stage->set_kv_bytes(load->second.done->kv_bytes());
    stage->set_scratch_bytes(load->second.done->scratch_bytes());
  }
  return to;
}

}  // namespace tandem::coordinator
