#include "coordinator/placement/planner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/placement/cut_search.h"
#include "engine/base/format_bytes.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation_format.h"

namespace tandem::coordinator {
namespace {

constexpr double kNoBound = std::numeric_limits<double>::infinity();

absl::Status CheckInput(const PlanInput& input) {
  if (input.devices.empty()) return absl::InvalidArgumentError("no workers to place layers on");
  if (input.cost.layers.empty()) return absl::InvalidArgumentError("the model has no layers");
  for (const PlanDevice& device : input.devices) {
    const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
    if (!positive(device.bandwidth) || !positive(device.int8_macs)) {
      return absl::InvalidArgumentError(absl::StrCat("worker \"", device.name, "\": memory bandwidth ",
                                                     device.bandwidth, " bytes/s and int8 rate ", device.int8_macs,
                                                     " multiply-adds/s must be positive"));
    }
  }
  return absl::OkStatus();
}

std::vector<std::vector<int32_t>> OrdersToTry(int32_t devices) {
  std::vector<int32_t> given(devices);
  std::iota(given.begin(), given.end(), 0);
  std::vector<std::vector<int32_t>> orders = {given};
  if (devices > kMaxOrderedDevices) return orders;
  for (int32_t first = 0; first < devices; ++first) {
    for (int32_t last = 0; last < devices; ++last) {
      if (first == last) continue;
      std::vector<int32_t> order = {first};
      for (int32_t device : given) {
        if (device != first && device != last) order.push_back(device);
      }
      order.push_back(last);
      if (order != given) orders.push_back(order);
    }
  }
  return orders;
}

// The fastest cut over all orders, or nothing if none fits.
std::optional<Cut> BestCut(const CostModel& costs, const std::vector<std::vector<int32_t>>& orders, CutLimits limits) {
  std::optional<Cut> best;
  for (const std::vector<int32_t>& order : orders) {
    std::optional<Cut> cut = FindFastestCut(costs, order, limits);
    // Equal but for rounding: the order tried first stays.
    if (cut && (!best || cut->decode_s < best->decode_s * (1 - 1e-9))) best = std::move(cut);
  }
  return best;
}

// Of the cuts within kDecodeSlack of the fastest one, that whose busiest stage is least busy.
Cut BalanceCut(const CostModel& costs, const std::vector<std::vector<int32_t>>& orders, CutLimits limits, Cut fastest) {
  const double limit_s = fastest.decode_s * (1 + kDecodeSlack);
  std::vector<double> bounds;
  for (int32_t device : orders[0]) {
    for (int32_t first = 0; first < costs.layers(); ++first) {
      for (int32_t end = first + 1; end <= costs.layers(); ++end) {
        bounds.push_back(costs.BusySeconds(device, first, end));
      }
    }
  }
  std::sort(bounds.begin(), bounds.end());
  Cut best = std::move(fastest);
  size_t low = 0, high = bounds.size();  // bounds below low are too tight; from high on they are known to do
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    limits.max_busy_s = bounds[middle];
    std::optional<Cut> cut = BestCut(costs, orders, limits);
    if (cut && cut->decode_s <= limit_s) {
      best = *std::move(cut);
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return best;
}

// Most pages between one context and all that is wanted with which some cut fits; 0 if none does.
int32_t MostPages(const CostModel& costs, const PlanInput& input, const std::vector<std::vector<int32_t>>& orders,
                  int32_t stages) {
  const auto fits = [&](int32_t pages) { return BestCut(costs, orders, {pages, stages, kNoBound}).has_value(); };
  int32_t good = input.pages_of_context();
  if (!fits(good)) return 0;
  int32_t bad = good * input.max_sequences + 1;
  if (fits(bad - 1)) return bad - 1;
  while (bad - good > 1) {
    const int32_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

absl::Status DoesNotFit(const CostModel& costs, const PlanInput& input) {
  const engine::StageMemory need = costs.Memory(0, costs.layers(), input.pages_of_context());
  uint64_t offered = 0;
  std::vector<std::string> each;
  for (const PlanDevice& device : input.devices) {
    offered += device.memory_bytes;
    each.push_back(absl::StrCat(device.name, " ", FormatBytes(device.memory_bytes)));
  }
  // Scratch is needed on every stage, and a layer cannot be cut, so a sum that suffices may still not fit.
  return absl::ResourceExhaustedError(absl::StrCat(
      "the model does not fit: it needs ", FormatBytes(need.total()), " (weights ", FormatBytes(need.weights),
      ", KV pages of one context of ", input.context, " tokens ", FormatBytes(need.kv), ", scratch ",
      FormatBytes(need.scratch), " a stage), the workers offer ", FormatBytes(offered), ": ", absl::StrJoin(each, ", "),
      ". Add a worker or memory, or lower the context"));
}

Plan MakePlan(const CostModel& costs, const PlanInput& input, const Cut& cut, int32_t num_pages) {
  Plan plan;
  plan.num_pages = num_pages;
  plan.page_tokens = input.page_tokens;
  plan.context = input.context;
  plan.max_step_tokens = input.max_step_tokens;
  for (const CutRange& range : cut.ranges) {
    const PlanDevice& device = input.devices[range.device];
    StagePlan stage;
    stage.device = range.device;
    stage.name = device.name;
    stage.first_layer = range.first_layer;
    stage.end_layer = range.end_layer;
    stage.memory = costs.Memory(range.first_layer, range.end_layer, num_pages);
    stage.memory_bytes = device.memory_bytes;
    stage.decode_s = costs.DecodeSeconds(range.device, range.first_layer, range.end_layer);
    stage.chunk_s = costs.ChunkSeconds(range.device, range.first_layer, range.end_layer);
    stage.busy_s = costs.BusySeconds(range.device, range.first_layer, range.end_layer);
    plan.stages.push_back(std::move(stage));
  }
  PlanHops(input, &plan);
  return plan;
}

engine::TensorType ChooseType(const PlanInput& input, const LinkCost& link, double slowest_stage_s) {
  if (input.activations) return *input.activations;
  engine::TensorType chosen = engine::TensorType::kF32;
  for (const engine::TensorType type :
       {engine::TensorType::kF32, engine::TensorType::kF16, engine::TensorType::kQ8_0}) {
    if (!engine::CheckActivationType(type, input.hidden).ok()) continue;
    chosen = type;
    if (HopSeconds(input, link, type, input.max_step_tokens) <= slowest_stage_s) break;
  }
  return chosen;
}

}  // namespace

absl::StatusOr<Plan> PlanPlacement(const PlanInput& input) {
  TANDEM_RETURN_IF_ERROR(CheckInput(input));
  const CostModel costs(input);
  const int32_t devices = static_cast<int32_t>(input.devices.size());
  const std::vector<std::vector<int32_t>> orders = OrdersToTry(devices);
  int32_t stages = std::max(1, std::min({input.min_stages, devices, costs.layers()}));
  int32_t pages = 0;
  for (; stages >= 1; --stages) {
    pages = MostPages(costs, input, orders, stages);
    if (pages > 0) break;
  }
  if (pages == 0) return DoesNotFit(costs, input);
  const CutLimits limits = {pages, stages, kNoBound};
  const Cut fastest = *BestCut(costs, orders, limits);
  return MakePlan(costs, input, BalanceCut(costs, orders, limits, fastest), pages);
}

void PlanHops(const PlanInput& input, Plan* plan) {
  double slowest_s = 0, busiest_s = 0;
  for (const StagePlan& stage : plan->stages) {
    slowest_s = std::max(slowest_s, stage.chunk_s);
    busiest_s = std::max(busiest_s, stage.busy_s);
  }
  // From the coordinator to the first stage and from the last one back go token ids only.
  double decode_s = 2 * input.link.latency_s, chunk_s = slowest_s;
  for (size_t i = 0; i < plan->stages.size(); ++i) {
    StagePlan& stage = plan->stages[i];
    decode_s += stage.decode_s;
    if (i + 1 == plan->stages.size()) continue;
    const LinkCost& link = LinkBetween(input, stage.name, plan->stages[i + 1].name);
    stage.sends = ChooseType(input, link, slowest_s);
    stage.hop_s = HopSeconds(input, link, stage.sends, 1);
    stage.chunk_hop_s = HopSeconds(input, link, stage.sends, input.max_step_tokens);
    decode_s += stage.hop_s;
    chunk_s = std::max(chunk_s, stage.chunk_hop_s);
    busiest_s = std::max(busiest_s, stage.chunk_hop_s / input.max_step_tokens);
  }
  plan->decode_tokens_per_s = 1 / decode_s;
  plan->prefill_tokens_per_s = input.max_step_tokens / chunk_s;
  plan->tokens_per_s = 1 / busiest_s;
}

std::string FormatPlan(const Plan& plan) {
  size_t width = 6;
  for (const StagePlan& stage : plan.stages) width = std::max(width, stage.name.size());
  // The last three: what the stage sends on, and how long a token and a full step are under way.
  std::string text = absl::StrFormat("stage  %-*s  %-9s  %11s  %11s  %11s  %11s  %9s  %-5s  %9s  %9s\n",
                                     static_cast<int>(width), "worker", "layers", "weights", "KV pages", "scratch",
                                     "of memory", "ms/token", "sends", "hop ms", "step hop");
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    absl::StrAppendFormat(&text, "%-5d  %-*s  %-9s  %11s  %11s  %11s  %11s  %9.3f", static_cast<int>(i),
                          static_cast<int>(width), stage.name,
                          absl::StrCat(stage.first_layer, "-", stage.end_layer - 1), FormatBytes(stage.memory.weights),
                          FormatBytes(stage.memory.kv), FormatBytes(stage.memory.scratch),
                          FormatBytes(stage.memory_bytes), stage.decode_s * 1e3);
    if (i + 1 < plan.stages.size()) {
      absl::StrAppendFormat(&text, "  %-5s  %9.3f  %9.3f", engine::ActivationTypeName(stage.sends), stage.hop_s * 1e3,
                            stage.chunk_hop_s * 1e3);
    }
    absl::StrAppend(&text, "\n");
  }
  const double contexts = static_cast<double>(plan.num_pages) * plan.page_tokens / plan.context;
  absl::StrAppendFormat(&text, "KV pages: %d of %d tokens, enough for %.1f contexts of %d tokens\n", plan.num_pages,
                        plan.page_tokens, contexts, plan.context);
  absl::StrAppendFormat(
      &text, "predicted: decode %.1f tokens/s (one sequence), prefill %.0f tokens/s, many requests %.1f tokens/s\n",
      plan.decode_tokens_per_s, plan.prefill_tokens_per_s, plan.tokens_per_s);
  return text;
}

}  // namespace tandem::coordinator
