// What a range of layers costs on a device: memory, time of a decoded token, time of a prefill chunk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/quant/tensor_type.h"
#include "engine/stage.h"

namespace tandem::coordinator {

// A machine as measured by its worker.
struct PlanDevice {
  std::string name;
  uint64_t memory_bytes = 0;  // that it may use
  double bandwidth = 0;       // bytes a second, reading
  double int8_macs = 0;       // multiply-adds a second
  int32_t threads = 0;        // 0: unknown
};

// A hop between two members. Defaults, for hops that nobody measured: Gigabit Ethernet at 94 % and half of a quiet
// LAN's round trip with gRPC on both ends.
struct LinkCost {
  double latency_s = 150e-6;
  double bytes_per_s = 117e6;
};
// Hops that were measured, by the names of the worker that sends and the one that receives.
using MeasuredLinks = std::map<std::pair<std::string, std::string>, LinkCost>;

// What activations travel as between stages: one of engine::ActivationTypes for all hops; none: the planner's choice
// for each hop (PlanHops).
using ActivationChoice = std::optional<engine::TensorType>;
// The names of engine::ActivationTypes and "auto". Errors: kInvalidArgument.
absl::StatusOr<ActivationChoice> ParseActivationChoice(absl::string_view name);
std::vector<std::string> ActivationChoiceNames();
inline constexpr char kActivationsHelp[] =
    "What activations travel as between stages; auto: exact (f32), narrower where a link would be the bottleneck";

// Bytes of scratch memory of a stage, which depends on its place but hardly on its length.
struct ScratchCost {
  uint64_t whole = 0;  // embedding and head
  uint64_t first = 0, middle = 0, last = 0;
};

// What part of all tokens those of prompts are expected to be. Stages are balanced for that mix: a prompt's tokens are
// many to a step and of few the logits are wanted, an answer's tokens are few to a step and each goes through the head.
inline constexpr double kDefaultPromptShare = 0.5;
// The answers' tokens in a step that the balance is for.
inline constexpr int32_t kBalancedDecodes = 8;

struct PlanInput {
  engine::ModelCost cost;
  // Of each layer; empty: no adapters. A token reads only those that its request names, so they count as memory and not
  // as time.
  std::vector<uint64_t> adapter_bytes;
  int32_t hidden = 0;
  uint64_t kv_bytes_per_token_layer = 0;
  ScratchCost scratch;
  std::vector<PlanDevice> devices;
  LinkCost link;  // of hops that are not in `links`
  MeasuredLinks links;
  ActivationChoice activations = engine::TensorType::kF32;
  int32_t min_stages = 1;     // of each pipeline
  int32_t max_pipelines = 0;  // 0: any number
  int32_t context = 0;        // tokens
  int32_t max_sequences = 8;
  int32_t page_tokens = 32;
  int32_t max_step_tokens = 512;
  double prompt_share = kDefaultPromptShare;

  int32_t pages_of_context() const { return (context + page_tokens - 1) / page_tokens; }
};

// What of PlanInput does not come from the model.
struct PlanOptions {
  int32_t context = 0;  // tokens; 0: the model's, at most kDefaultContext
  int32_t max_sequences = 8;
  int32_t page_tokens = 32;
  int32_t max_step_tokens = 512;
  engine::KvType kv_type = engine::KvType::kF16;
  ActivationChoice activations = engine::TensorType::kF32;
  int32_t min_stages = 1;
  int32_t max_pipelines = 0;
  double prompt_share = kDefaultPromptShare;  // 0..1
};
inline constexpr int32_t kDefaultContext = 4096;
inline constexpr int32_t kMaxSequences = 1024;

// Everything of the model, its adapters (their sources are not needed) and the options; the caller may set `link` and
// `links`. `spec` was read from `file`. Errors: kInvalidArgument (a context beyond the model's, options out of range;
// with value and limit), those of CheckActivationType and ReadAdapter.
absl::StatusOr<PlanInput> MakePlanInput(const engine::GgufFile& file, const engine::ModelSpec& spec,
                                        const PlanOptions& options, std::vector<PlanDevice> devices,
                                        std::span<const engine::AdapterSource> adapters = {});

// What a step asks of a stage.
struct StepWork {
  int32_t tokens = 0;
  int32_t outputs = 0;  // positions whose logits are wanted
  int64_t keys = 0;     // sum over slices: tokens up to the slice's end, whose keys and values are read
  int64_t pairs = 0;    // sum over tokens: keys that the token attends to
};

// The hop from one worker to another, by their names: as measured, else PlanInput::link.
const LinkCost& LinkBetween(const PlanInput& input, const std::string& from, const std::string& to);
// Seconds that the activations of `tokens` tokens take over a hop.
double HopSeconds(const PlanInput& input, const LinkCost& link, engine::TensorType type, int32_t tokens);

// Costs of ranges in constant time. Time of a layer is that of reading once the weights that its tokens use, or of one
// token's products if they take longer, and of the other tokens' products: memory bounds decode, arithmetic bounds
// prefill, and steps of a few tokens take both. Attention is left out: it is the same for every
// layer and small against the weights until the context is long.
class CostModel {
 public:
  // `input` must outlive this.
  explicit CostModel(const PlanInput& input);

  int32_t layers() const { return static_cast<int32_t>(input_.cost.layers.size()); }
  double DecodeSeconds(int32_t device, int32_t first, int32_t end) const { return decode_[device].Range(first, end); }
  double ChunkSeconds(int32_t device, int32_t first, int32_t end) const { return chunk_[device].Range(first, end); }
  // Of any step, with attention, which reads keys and values once a slice and computes with floats. O(layers).
  double StepSeconds(int32_t device, int32_t first, int32_t end, const StepWork& work) const;
  // How long a range works for one token of the expected mix of prompts and answers.
  double BusySeconds(int32_t device, int32_t first, int32_t end) const { return busy_[device].Range(first, end); }
  // Seconds that a token's activations take between two stages of which nothing is known; F32 unless told otherwise.
  double DecodeHopSeconds() const {
    return HopSeconds(input_, input_.link, input_.activations.value_or(engine::TensorType::kF32), 1);
  }
  engine::StageMemory Memory(int32_t first, int32_t end, int32_t num_pages) const;
  bool Fits(int32_t device, int32_t first, int32_t end, int32_t num_pages) const {
    return Memory(first, end, num_pages).total() <= input_.devices[device].memory_bytes;
  }

 private:
  // Prefix sums over the layers; the head counts as one more after the last.
  struct Sums {
    std::vector<double> before;  // [layers + 1]
    double head = 0;
    double Range(int32_t first, int32_t end) const {
      const bool last = end + 1 == static_cast<int32_t>(before.size());
      return before[end] - before[first] + (last ? head : 0);
    }
  };
  // `sampled` of the tokens go through the head.
  Sums SumsFor(const PlanDevice& device, int32_t tokens, int32_t sampled) const;
  Sums BusyFor(const PlanDevice& device) const;

  const PlanInput& input_;
  std::vector<Sums> decode_, chunk_, busy_;  // by device
  std::vector<uint64_t> weight_before_;      // bytes, [layers + 1]
};

}  // namespace tandem::coordinator
