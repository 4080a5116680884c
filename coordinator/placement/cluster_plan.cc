#include "coordinator/placement/cluster_plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

using Group = std::vector<int32_t>;  // indices into PlanInput::devices, ascending

constexpr size_t kMaxUnusedShown = 16, kMaxPipelinesShown = 8;
// Up to so many pipelines each number is tried, beyond it powers of two.
constexpr int32_t kEachNumberUpTo = 16;
constexpr double kDecodeGain = 1.10, kOtherGain = 1.25;

double SumOfSpeeds(const std::vector<Plan>& pipelines) {
  return std::accumulate(pipelines.begin(), pipelines.end(), 0.0,
                         [](double sum, const Plan& plan) { return sum + plan.tokens_per_s; });
}

double Fastest(const std::vector<Plan>& pipelines, double Plan::*speed) {
  double best = 0;
  for (const Plan& plan : pipelines) best = std::max(best, plan.*speed);
  return best;
}

// What is to be large. A prompt alone that is read half as fast must be made good by 1.4 times the requests.
double Score(const std::vector<Plan>& pipelines) {
  return SumOfSpeeds(pipelines) * std::sqrt(Fastest(pipelines, &Plan::prefill_tokens_per_s));
}

// Plans for groups of the devices. Groups of equal devices, between which no link was measured, are planned once.
class GroupPlanner {
 public:
  explicit GroupPlanner(const PlanInput& input) : input_(input) {}

  absl::StatusOr<Plan> PlanFor(const Group& group) {
    std::vector<PlanDevice> devices;
    for (int32_t index : group) devices.push_back(input_.devices[index]);
    Key key;
    for (const PlanDevice& device : devices) key.emplace_back(device.memory_bytes, device.bandwidth, device.int8_macs);
    auto known = input_.links.empty() ? known_.find(key) : known_.end();
    if (known == known_.end()) {
      PlanInput part = input_;
      part.devices = std::move(devices);
      known = known_.insert_or_assign(std::move(key), PlanPlacement(part)).first;
    }
    absl::StatusOr<Plan> plan = known->second;
    if (!plan.ok()) return plan;
    for (StagePlan& stage : plan->stages) {
      stage.device = group[stage.device];
      stage.name = input_.devices[stage.device].name;
    }
    return plan;
  }

 private:
  using Key = std::vector<std::tuple<uint64_t, double, double>>;
  const PlanInput& input_;
  std::map<Key, absl::StatusOr<Plan>> known_;
};

// `devices` dealt out: whatever has most to offer goes where there is least so far.
std::vector<Group> Deal(const PlanInput& input, const Group& devices, int32_t groups) {
  double memory = 0, bandwidth = 0, macs = 0;
  for (int32_t index : devices) {
    memory += static_cast<double>(input.devices[index].memory_bytes);
    bandwidth += input.devices[index].bandwidth;
    macs += input.devices[index].int8_macs;
  }
  std::vector<std::pair<double, int32_t>> by_share;  // what each offers
  for (int32_t index : devices) {
    const PlanDevice& device = input.devices[index];
    const double share = static_cast<double>(device.memory_bytes) / std::max(memory, 1.0) +
                         device.bandwidth / bandwidth + device.int8_macs / macs;
    by_share.emplace_back(-share, index);
  }
  std::sort(by_share.begin(), by_share.end());
  std::set<std::pair<double, int32_t>> by_load;  // groups
  for (int32_t group = 0; group < groups; ++group) by_load.emplace(0, group);
  std::vector<Group> dealt(groups);
  for (const auto& [share, index] : by_share) {
    const auto [load, group] = *by_load.begin();
    by_load.erase(by_load.begin());
    by_load.emplace(load - share, group);
    dealt[group].push_back(index);
  }
  for (Group& group : dealt) std::sort(group.begin(), group.end());
  return dealt;
}

class Search {
 public:
  explicit Search(const PlanInput& input) : input_(input), planner_(input) {}

  // The best plans for `devices` beside `others`, of at most `most` pipelines; none if all would be too slow. Errors:
  // those of one pipeline.
  absl::StatusOr<std::vector<Plan>> Find(const Group& devices, const std::vector<Plan>& others, int32_t most) {
    TANDEM_ASSIGN_OR_RETURN(const Plan one, planner_.PlanFor(devices));
    std::vector<Plan> best;
    if (IsFair(one, others, {one})) best.push_back(one);
    const int32_t each = std::max(1, input_.min_stages);
    most = std::min(most, static_cast<int32_t>(devices.size()) / each);
    const auto consider = [&](std::optional<std::vector<Plan>> plans) {
      if (!plans || !IsFair(one, others, *plans)) return;
      if (Score(*plans) > Score(best) * kPipelineGain) best = *std::move(plans);
    };
    for (int32_t count = 2; count <= most; count += count < kEachNumberUpTo ? 1 : count) {
      consider(PlanEqual(devices, count));
    }
    if (most > 1) consider(PlanOneByOne(devices, one, most));
    return best;
  }

 private:
  std::optional<std::vector<Plan>> PlanEqual(const Group& devices, int32_t count) {
    std::vector<Plan> plans;
    for (const Group& group : Deal(input_, devices, count)) {
      if (static_cast<int32_t>(group.size()) < input_.min_stages) return std::nullopt;
      absl::StatusOr<Plan> plan = planner_.PlanFor(group);
      if (!plan.ok()) return std::nullopt;
      plans.push_back(*std::move(plan));
    }
    return plans;
  }

  // Each takes what makes it fastest, as the first one did.
  std::vector<Plan> PlanOneByOne(Group left, Plan next, int32_t most) {
    std::vector<Plan> plans;
    while (true) {
      for (const StagePlan& stage : next.stages) std::erase(left, stage.device);
      plans.push_back(std::move(next));
      const int32_t enough = std::max(1, input_.min_stages);
      if (static_cast<int32_t>(plans.size()) == most || static_cast<int32_t>(left.size()) < enough) break;
      absl::StatusOr<Plan> more = planner_.PlanFor(left);
      if (!more.ok() || more->decode_tokens_per_s < kSlowestPipeline * plans[0].decode_tokens_per_s) break;
      next = *std::move(more);
    }
    return plans;
  }

  // One client is as well off as with `one`, and no pipeline is much slower than another.
  static bool IsFair(const Plan& one, const std::vector<Plan>& others, const std::vector<Plan>& plans) {
    const double fastest = Fastest(plans, &Plan::decode_tokens_per_s);
    if (fastest * (1 + kDecodeSlack) < one.decode_tokens_per_s) return false;
    const double least = kSlowestPipeline * std::max(fastest, Fastest(others, &Plan::decode_tokens_per_s));
    return std::all_of(plans.begin(), plans.end(),
                       [least](const Plan& plan) { return plan.decode_tokens_per_s >= least; });
  }

  const PlanInput& input_;
  GroupPlanner planner_;
};

int32_t MostPipelines(const PlanInput& input) {
  const int32_t devices = static_cast<int32_t>(input.devices.size());
  return input.max_pipelines > 0 ? std::min(input.max_pipelines, devices) : devices;
}

}  // namespace

absl::StatusOr<ClusterPlan> PlanCluster(const PlanInput& input) {
  Group all(input.devices.size());
  std::iota(all.begin(), all.end(), 0);
  ClusterPlan plan;
  TANDEM_ASSIGN_OR_RETURN(plan.pipelines, Search(input).Find(all, /*others=*/{}, MostPipelines(input)));
  std::vector<bool> used(input.devices.size());
  for (const Plan& pipeline : plan.pipelines) {
    for (const StagePlan& stage : pipeline.stages) used[stage.device] = true;
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) plan.unused.push_back(input.devices[i].name);
  }
  return plan;
}

std::vector<Plan> PlanMore(const PlanInput& input, const std::vector<Plan>& pipelines) {
  std::set<std::string> used;
  for (const Plan& pipeline : pipelines) {
    for (const StagePlan& stage : pipeline.stages) used.insert(stage.name);
  }
  Group free;
  for (size_t i = 0; i < input.devices.size(); ++i) {
    if (used.count(input.devices[i].name) == 0) free.push_back(static_cast<int32_t>(i));
  }
  const int32_t most = MostPipelines(input) - static_cast<int32_t>(pipelines.size());
  if (most < 1 || free.empty() || static_cast<int32_t>(free.size()) < input.min_stages) return {};
  const absl::StatusOr<std::vector<Plan>> more = Search(input).Find(free, pipelines, most);
  if (!more.ok()) return {};
  const double all = SumOfSpeeds(pipelines);
  if (all + SumOfSpeeds(*more) < all * kPipelineGain) return {};
  return *more;
}

bool IsWorthMoving(const std::vector<Plan>& current, const std::vector<Plan>& candidate) {
  const double decode = Fastest(candidate, &Plan::decode_tokens_per_s) / Fastest(current, &Plan::decode_tokens_per_s);
  const double prefill =
      Fastest(candidate, &Plan::prefill_tokens_per_s) / Fastest(current, &Plan::prefill_tokens_per_s);
  const double many = SumOfSpeeds(candidate) / SumOfSpeeds(current);
  const double least = 1 / (1 + kDecodeSlack);
  return (decode > kDecodeGain || std::max(prefill, many) > kOtherGain) && std::min(decode, many) > least;
}

std::string FormatClusterPlan(const ClusterPlan& plan) {
  std::string text;
  const size_t shown = std::min(plan.pipelines.size(), kMaxPipelinesShown);
  for (size_t i = 0; i < shown; ++i) {
    if (plan.pipelines.size() > 1) absl::StrAppendFormat(&text, "pipeline %d of %d\n", i + 1, plan.pipelines.size());
    absl::StrAppend(&text, FormatPlan(plan.pipelines[i]), plan.pipelines.size() > 1 ? "\n" : "");
  }
  if (shown < plan.pipelines.size()) absl::StrAppendFormat(&text, "and %d more\n\n", plan.pipelines.size() - shown);
  if (plan.pipelines.size() > 1) {
    absl::StrAppendFormat(&text, "all pipelines: %.1f tokens/s (many requests)\n", SumOfSpeeds(plan.pipelines));
  }
  if (!plan.unused.empty()) {
    const size_t named = std::min(plan.unused.size(), kMaxUnusedShown);
    const std::string names = absl::StrJoin(plan.unused.begin(), plan.unused.begin() + named, ", ");
    absl::StrAppend(&text, "without layers: ", names);
    if (named < plan.unused.size()) absl::StrAppend(&text, " and ", plan.unused.size() - named, " more");
    absl::StrAppend(&text, "\n");
  }
  return text;
}

}  // namespace tandem::coordinator
