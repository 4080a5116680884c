#include "cli/cluster_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/format_bytes.h"
#include "proto/support/engine_convert.h"

namespace tandem::cli {
namespace {

const char* PhaseText(v1::Phase phase) {
  switch (phase) {
    case v1::PHASE_WAITING:
      return "waiting";
    case v1::PHASE_LOADING:
      return "loading";
    case v1::PHASE_SERVING:
      return "serving";
    default:
      return "unknown";
  }
}

std::string Progress(const v1::Worker& worker) {
  if (worker.load_bytes_total() == 0) return "-";
  if (worker.load_bytes_done() >= worker.load_bytes_total())
    return worker.from_local_file() ? "local file" : "streamed";
  return absl::StrFormat("%.0f %%", 100.0 * worker.load_bytes_done() / worker.load_bytes_total());
}

coordinator::Plan PipelineFromProto(const v1::Placement& placement) {
  coordinator::Plan plan;
  plan.num_pages = static_cast<int32_t>(placement.num_pages());
  plan.page_tokens = static_cast<int32_t>(placement.page_tokens());
  plan.context = static_cast<int32_t>(placement.context());
  plan.decode_tokens_per_s = placement.predicted_decode_tokens_per_s();
  plan.prefill_tokens_per_s = placement.predicted_prefill_tokens_per_s();
  plan.tokens_per_s = placement.predicted_tokens_per_s();
  for (const v1::StagePlacement& from : placement.stages()) {
    coordinator::StagePlan& stage = plan.stages.emplace_back();
    stage.name = from.worker();
    stage.first_layer = static_cast<int32_t>(from.first_layer());
    stage.end_layer = static_cast<int32_t>(from.end_layer());
    stage.memory = {.weights = from.weight_bytes(), .kv = from.kv_bytes(), .scratch = from.scratch_bytes()};
    stage.memory_bytes = from.memory_bytes();
    stage.decode_s = from.predicted_decode_s();
    // A coordinator of another version may name a type unknown here, or none.
    stage.sends = proto_support::ActivationTypeFromProto(from.activation_type()).value_or(engine::TensorType::kF32);
    stage.hop_s = from.predicted_hop_s();
    stage.chunk_hop_s = from.predicted_step_hop_s();
  }
  return plan;
}

std::string PhaseLine(const v1::ClusterState& state) {
  std::string text = PhaseText(state.phase());
  const auto serving = std::count_if(state.pipelines().begin(), state.pipelines().end(),
                                     [](const v1::Placement& each) { return each.phase() == v1::PHASE_SERVING; });
  if (state.phase() == v1::PHASE_SERVING && state.pipelines_size() > serving) {
    absl::StrAppendFormat(&text, ", %d of %d pipelines load", state.pipelines_size() - serving, state.pipelines_size());
  }
  if (state.phase() != v1::PHASE_LOADING && !state.detail().empty()) absl::StrAppend(&text, ": ", state.detail());
  return text;
}

}  // namespace

coordinator::ClusterPlan PlanFromProto(const google::protobuf::RepeatedPtrField<v1::Placement>& pipelines,
                                       const google::protobuf::RepeatedPtrField<std::string>& unused) {
  coordinator::ClusterPlan plan;
  for (const v1::Placement& placement : pipelines) plan.pipelines.push_back(PipelineFromProto(placement));
  plan.unused.assign(unused.begin(), unused.end());
  return plan;
}

std::string FormatState(const v1::ClusterState& state) {
  std::string text = absl::StrFormat("model    %s (%s)\nphase    %s\n", state.model().name(),
                                     FormatBytes(state.model().file_bytes()), PhaseLine(state));
  if (state.has_draft_model()) {
    const bool placed = state.has_draft() && state.draft().stages_size() > 0;
    absl::StrAppendFormat(&text, "draft    %s (%s) on %s%s\n", state.draft_model().name(),
                          FormatBytes(state.draft_model().file_bytes()),
                          placed ? state.draft().stages(0).worker() : "the coordinator's machine",
                          placed && state.draft().phase() == v1::PHASE_LOADING ? ", which loads it" : "");
  }
  absl::StrAppendFormat(&text, "requests %d running, %d waiting; KV pages %d of %d used; up %d s\n\n", state.running(),
                        state.waiting(), state.kv_pages_used(), state.kv_pages_total(), state.uptime_s());
  if (state.workers().empty()) {
    text += "no workers yet; on another machine: tandem join HOST:PORT\n";
  } else {
    absl::StrAppendFormat(&text, "%-16s %-22s %-8s %7s %10s %10s %12s %10s %-10s\n", "worker", "address", "ISA",
                          "threads", "memory", "read GB/s", "int8 GMAC/s", "in use", "weights");
  }
  for (const v1::Worker& worker : state.workers()) {
    const v1::Device& device = worker.device();
    absl::StrAppendFormat(&text, "%-16s %-22s %-8s %7d %10s %10.1f %12.1f %10s %-10s\n", worker.name(),
                          worker.address(), device.isa(), device.threads(), FormatBytes(device.memory_bytes()),
                          device.memory_bandwidth() / 1e9, device.int8_macs() / 1e9, FormatBytes(worker.memory_used()),
                          Progress(worker));
  }
  if (state.pipelines_size() > 0) {
    absl::StrAppend(&text, "\n", coordinator::FormatClusterPlan(PlanFromProto(state.pipelines(), state.unused())));
  }
  return text;
}

}  // namespace tandem::cli
