#include "coordinator/placement/cost_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"
#include "engine/model/adapter.h"
#include "engine/quant/activation_format.h"

namespace tandem::coordinator {
namespace {

constexpr char kAutomatic[] = "auto";

// A multiply-add of floats takes the time of so many of int8: lanes are four times as wide, and their bytes as well.
constexpr double kFloatMac = 4;

// The products of one token hide behind the reading of the weights; those of more do not, since kernels for few tokens
// unpack weights as they come. (1B Q4_K_M on one core, 8 tokens: 51 to 56 ms measured, 51 so, 30 if all of them hid.)
double Seconds(const engine::PartCost& part, const PlanDevice& device, int32_t tokens) {
  const double reading = part.ReadBytes(tokens) / device.bandwidth;
  const double one = static_cast<double>(part.macs_per_token) / device.int8_macs;
  return std::max(reading, one) + one * (tokens - 1);
}

absl::StatusOr<uint64_t> ScratchOf(const engine::GgufFile& file, const engine::ModelSpec& spec,
                                   const PlanOptions& options, int32_t first, int32_t end, int32_t num_pages,
                                   int32_t threads, std::span<const engine::AdapterSource> adapters) {
  engine::StageOptions stage;
  stage.first_layer = first;
  stage.end_layer = end;
  stage.kv_type = options.kv_type;
  stage.page_tokens = options.page_tokens;
  stage.num_pages = num_pages;
  stage.max_step_tokens = options.max_step_tokens;
  stage.threads = threads;
  TANDEM_ASSIGN_OR_RETURN(const engine::StageMemory memory, engine::EstimateStageMemory(spec, file, stage, adapters));
  return memory.scratch;
}

absl::StatusOr<std::vector<uint64_t>> AdapterBytes(const engine::GgufFile& file, const engine::ModelSpec& spec,
                                                   std::span<const engine::AdapterSource> adapters) {
  std::vector<uint64_t> bytes(spec.num_layers);
  for (const engine::AdapterSource& adapter : adapters) {
    TANDEM_ASSIGN_OR_RETURN(const engine::AdapterSpec read, engine::ReadAdapter(*adapter.file, spec, file));
    for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
      bytes[layer] += engine::AdapterBytes(read, *adapter.file, layer);
    }
  }
  return bytes;
}

}  // namespace

absl::StatusOr<ActivationChoice> ParseActivationChoice(absl::string_view name) {
  if (name == kAutomatic) return ActivationChoice();
  TANDEM_ASSIGN_OR_RETURN(const engine::TensorType type, engine::ParseActivationType(name));
  return ActivationChoice(type);
}

std::vector<std::string> ActivationChoiceNames() {
  std::vector<std::string> names = engine::ActivationTypeNames();
  names.emplace_back(kAutomatic);
  return names;
}

absl::StatusOr<PlanInput> MakePlanInput(const engine::GgufFile& file, const engine::ModelSpec& spec,
                                        const PlanOptions& options, std::vector<PlanDevice> devices,
                                        std::span<const engine::AdapterSource> adapters) {
  if (options.context < 0 || options.context > spec.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("context is ", options.context, " tokens; the model was made for at most ", spec.context));
  }
  if (options.max_sequences < 1 || options.max_sequences > kMaxSequences) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_sequences is ", options.max_sequences, ", must be 1 to ", kMaxSequences));
  }
  if (!(options.prompt_share >= 0 && options.prompt_share <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("prompt_share is ", options.prompt_share, ", must be 0 to 1"));
  }
  if (options.page_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("page_tokens is ", options.page_tokens, ", must be at least 1"));
  }
  if (options.activations) {
    TANDEM_RETURN_IF_ERROR(engine::CheckActivationType(*options.activations, spec.hidden));
  }
  PlanInput input;
  input.activations = options.activations;
  input.cost = engine::ComputeModelCost(spec, file);
  TANDEM_ASSIGN_OR_RETURN(input.adapter_bytes, AdapterBytes(file, spec, adapters));
  input.hidden = spec.hidden;
  input.kv_bytes_per_token_layer = engine::KvBytes(options.kv_type, input.cost.kv_elements_per_token_layer);
  input.min_stages = options.min_stages;
  input.max_pipelines = options.max_pipelines;
  input.context = options.context > 0 ? options.context : std::min(spec.context, kDefaultContext);
  input.max_sequences = options.max_sequences;
  input.page_tokens = options.page_tokens;
  input.max_step_tokens = options.max_step_tokens;
  input.prompt_share = options.prompt_share;

  int32_t threads = 0;
  for (const PlanDevice& device : devices) threads = std::max(threads, device.threads);
  input.devices = std::move(devices);
  const int32_t pages = input.pages_of_context() * options.max_sequences;
  // The longest range of each kind, so that no shorter one needs more.
  const int32_t layers = spec.num_layers, inner = std::max(1, layers - 1);
  const auto scratch = [&](int32_t first, int32_t end) {
    return ScratchOf(file, spec, options, first, end, pages, threads, adapters);
  };
  TANDEM_ASSIGN_OR_RETURN(input.scratch.whole, scratch(0, layers));
  TANDEM_ASSIGN_OR_RETURN(input.scratch.first, scratch(0, inner));
  TANDEM_ASSIGN_OR_RETURN(input.scratch.last, scratch(layers - inner, layers));
  input.scratch.middle = input.scratch.first;
  if (layers > 2) {
    TANDEM_ASSIGN_OR_RETURN(input.scratch.middle, scratch(1, layers - 1));
  }
  return input;
}

const LinkCost& LinkBetween(const PlanInput& input, const std::string& from, const std::string& to) {
  const auto measured = input.links.find({from, to});
  return measured != input.links.end() ? measured->second : input.link;
}

double HopSeconds(const PlanInput& input, const LinkCost& link, engine::TensorType type, int32_t tokens) {
  const uint64_t bytes = engine::ActivationBytes(type, static_cast<uint64_t>(input.hidden)) * tokens;
  return link.latency_s + static_cast<double>(bytes) / link.bytes_per_s;
}

CostModel::CostModel(const PlanInput& input) : input_(input) {
  for (const PlanDevice& device : input.devices) {
    decode_.push_back(SumsFor(device, 1, 1));
    chunk_.push_back(SumsFor(device, input.max_step_tokens, 1));
    busy_.push_back(BusyFor(device));
  }
  weight_before_.push_back(0);
  for (size_t layer = 0; layer < input.cost.layers.size(); ++layer) {
    const uint64_t adapters = input.adapter_bytes.empty() ? 0 : input.adapter_bytes[layer];
    weight_before_.push_back(weight_before_.back() + input.cost.layers[layer].weight_bytes + adapters);
  }
}

CostModel::Sums CostModel::BusyFor(const PlanDevice& device) const {
  Sums sums = SumsFor(device, kBalancedDecodes, kBalancedDecodes);
  const Sums chunk = SumsFor(device, input_.max_step_tokens, 1);
  const auto mix = [this](double decode_s, double chunk_s) {
    return (1 - input_.prompt_share) * decode_s / kBalancedDecodes +
           input_.prompt_share * chunk_s / input_.max_step_tokens;
  };
  for (size_t layer = 0; layer < sums.before.size(); ++layer) {
    sums.before[layer] = mix(sums.before[layer], chunk.before[layer]);
  }
  sums.head = mix(sums.head, chunk.head);
  return sums;
}

CostModel::Sums CostModel::SumsFor(const PlanDevice& device, int32_t tokens, int32_t sampled) const {
  Sums sums;
  sums.before.push_back(0);
  for (const engine::PartCost& layer : input_.cost.layers) {
    sums.before.push_back(sums.before.back() + Seconds(layer, device, tokens));
  }
  sums.head = Seconds(input_.cost.head, device, sampled);
  return sums;
}

double CostModel::StepSeconds(int32_t device, int32_t first, int32_t end, const StepWork& work) const {
  const PlanDevice& on = input_.devices[device];
  double seconds = 0;
  for (int32_t layer = first; layer < end; ++layer) seconds += Seconds(input_.cost.layers[layer], on, work.tokens);
  // A score and a sum over values are each a multiply-add an element of the query, and queries are as wide as hidden
  // states, or nearly so.
  const double reading = static_cast<double>(input_.kv_bytes_per_token_layer) * static_cast<double>(work.keys);
  const double macs = 2.0 * input_.hidden * static_cast<double>(work.pairs);
  seconds += (end - first) * std::max(reading / on.bandwidth, macs * kFloatMac / on.int8_macs);
  if (end == layers() && work.outputs > 0) seconds += Seconds(input_.cost.head, on, work.outputs);
  return seconds;
}

engine::StageMemory CostModel::Memory(int32_t first, int32_t end, int32_t num_pages) const {
  const bool is_first = first == 0, is_last = end == layers();
  engine::StageMemory memory;
  memory.weights = weight_before_[end] - weight_before_[first] + input_.cost.EndBytes(is_first, is_last);
  memory.kv = input_.kv_bytes_per_token_layer * input_.page_tokens * num_pages * (end - first);
  const ScratchCost& scratch = input_.scratch;
  memory.scratch = is_first ? (is_last ? scratch.whole : scratch.first) : (is_last ? scratch.last : scratch.middle);
  return memory;
}

}  // namespace tandem::coordinator
