// The cluster's part that puts placements into messages: for workers, and for those who look on.
#include <optional>
#include <string>

#include "coordinator/cluster.h"
#include "engine/base/status_macros.h"
#include "proto/support/engine_convert.h"

namespace tandem::coordinator {
namespace {

v1::ModelRef RefTo(const std::string& name, const std::string& fingerprint, const engine::GgufFile& file) {
  v1::ModelRef ref;
  ref.set_name(name);
  ref.set_fingerprint(fingerprint);
  ref.set_file_bytes(file.file_bytes());
  ref.set_header_bytes(file.header().size());
  return ref;
}

// The model without its adapters.
v1::ModelRef RefTo(const ServedModel& model) { return RefTo(model.name(), model.fingerprint(), model.file()); }

}  // namespace

v1::Place Cluster::PlaceMessage(const Placed& placed, size_t stage) const {
  const StagePlan& plan = placed.plan.stages[stage];
  v1::Place place;
  place.set_epoch(placed.epoch);
  const ServedModel& model = ModelOf(placed);
  *place.mutable_model() = RefTo(model);
  place.set_first_layer(plan.first_layer);
  place.set_end_layer(plan.end_layer);
  place.set_stage(static_cast<uint32_t>(stage));
  place.set_num_stages(static_cast<uint32_t>(placed.members.size()));
  const bool last = stage + 1 == placed.members.size();
  place.set_next_address(last ? address_ : registry_.Find(placed.members[stage + 1])->hello.address());
  const PlanOptions& options = placed.drafts ? draft_.plan : options_.plan;
  place.mutable_kv()->set_type(proto_support::KvTypeToProto(options.kv_type));
  place.mutable_kv()->set_page_tokens(placed.plan.page_tokens);
  place.mutable_kv()->set_num_pages(placed.plan.num_pages);
  place.set_max_step_tokens(placed.plan.max_step_tokens);
  if (!last) place.set_activation_type(proto_support::ActivationTypeToProto(plan.sends));
  for (const ServedAdapter& adapter : model.adapters()) {
    *place.add_adapters() = RefTo(adapter.name, adapter.fingerprint, *adapter.file);
  }
  return place;
}

absl::StatusOr<v1::PlanReply> Cluster::PlanFor(int32_t context) const {
  if (registry_.members().empty()) return absl::FailedPreconditionError("no workers have joined yet");
  TANDEM_ASSIGN_OR_RETURN(const PlanInput input, MakeInput(context > 0 ? context : options_.plan.context));
  TANDEM_ASSIGN_OR_RETURN(const ClusterPlan plan, PlanCluster(input));
  v1::PlanReply reply;
  for (const Plan& pipeline : plan.pipelines) *reply.add_pipelines() = PlacementProto(pipeline, nullptr);
  reply.mutable_unused()->Assign(plan.unused.begin(), plan.unused.end());
  return reply;
}

v1::ClusterState Cluster::State() const {
  v1::ClusterState state;
  *state.mutable_model() = RefTo(model_);
  state.set_detail(Detail());
  state.set_phase(serves() ? v1::PHASE_SERVING : is_loading() ? v1::PHASE_LOADING : v1::PHASE_WAITING);
  if (draft_.model != nullptr) *state.mutable_draft_model() = RefTo(*draft_.model);
  for (const auto& [epoch, placed] : placed_) {
    *(placed.drafts ? state.mutable_draft() : state.add_pipelines()) = PlacementProto(placed.plan, &placed);
  }
  for (const auto& [id, member] : registry_.members()) {
    v1::Worker* worker = state.add_workers();
    worker->set_id(id);
    worker->set_name(member.hello.name());
    worker->set_address(member.hello.address());
    *worker->mutable_device() = member.hello.device();
    worker->set_memory_used(member.memory_used);
    const Placed* const placed = PlacedWith(id);
    if (placed == nullptr) {
      if (!placed_.empty()) state.add_unused(member.hello.name());
      continue;
    }
    const Load& load = placed->loads.at(id);
    worker->set_load_bytes_done(load.bytes_done);
    worker->set_load_bytes_total(load.bytes_total);
    worker->set_from_local_file(load.done && load.done->from_local_file());
  }
  return state;
}

v1::Placement Cluster::PlacementProto(const Plan& plan, const Placed* placed) const {
  v1::Placement to;
  if (placed != nullptr) {
    to.set_epoch(placed->epoch);
    to.set_phase(placed->serving ? v1::PHASE_SERVING : v1::PHASE_LOADING);
  }
  to.set_predicted_decode_tokens_per_s(plan.decode_tokens_per_s);
  to.set_predicted_prefill_tokens_per_s(plan.prefill_tokens_per_s);
  to.set_predicted_tokens_per_s(plan.tokens_per_s);
  to.set_num_pages(plan.num_pages);
  to.set_page_tokens(plan.page_tokens);
  to.set_context(plan.context);
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
    const std::optional<v1::LoadDone>& done = placed->loads.at(placed->members[i]).done;
    if (!done) continue;
    stage->set_weight_bytes(done->weight_bytes());
    stage->set_kv_bytes(done->kv_bytes());
    stage->set_scratch_bytes(done->scratch_bytes());
  }
  return to;
}

}  // namespace tandem::coordinator
