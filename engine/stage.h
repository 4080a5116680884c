// The one door of the engine: a stage is a contiguous range of a model's layers, loaded on this machine, that executes
// steps. The first stage also holds the embedding, the last one the output norm, the head and the sampler.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/cpu/cpu_features.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/model/tensor_source.h"
#include "engine/quant/kv_type.h"
#include "engine/sampling/sampler.h"

namespace tandem::engine {

struct StageOptions {
  int32_t first_layer = 0;  // layers [first_layer, end_layer)
  int32_t end_layer = 0;
  KvType kv_type = KvType::kF16;
  int32_t page_tokens = 32;       // tokens in a KV page, a multiple of 16
  int32_t num_pages = 0;          // KV pages of this stage, the same on all stages of a pipeline
  int32_t max_step_tokens = 512;  // tokens of all slices of one step: sizes the scratch memory
  Isa isa = Isa::kScalar;
  int32_t threads = 0;      // 0: one per physical core
  bool pin_threads = true;  // false where several stages share a process
};

// An adapter (engine/model/adapter.h) of the stage's model. Both are borrowed.
struct AdapterSource {
  const GgufFile* file = nullptr;
  TensorSource* source = nullptr;  // not needed to estimate memory
};

// Bytes a stage will hold, known before anything is loaded.
struct StageMemory {
  uint64_t weights = 0;
  uint64_t kv = 0;
  uint64_t scratch = 0;
  uint64_t total() const { return weights + kv + scratch; }
};
// Errors: kInvalidArgument (range or options out of bounds; names the field, value and limit), those of ReadAdapter.
absl::StatusOr<StageMemory> EstimateStageMemory(const ModelSpec& spec, const GgufFile& file,
                                                const StageOptions& options,
                                                std::span<const AdapterSource> adapters = {});

enum class SliceOutput {
  kNone,    // prefill that is not at its end: only fills the KV cache
  kSample,  // draw the token after the slice's last one
  kLogits,  // the logits at every position of the slice
  // Of the hidden states behind the output norm, from which embeddings are pooled:
  kFirstState,  // that of the slice's first token
  kLastState,   // that of its last token
  kStateSum,    // the sum over its tokens
};

// kStateSum counts in units of 2^-kStateSumBits, each state rounded to the nearest (half to even): whole numbers add up
// to the same sum whatever the chunks. No state may reach kMaxSummedState, so that kMaxPositions of them fit an int64.
inline constexpr int kStateSumBits = 28;
inline constexpr float kMaxSummedState = 32768.0f;
static_assert(kMaxPositions <= (int64_t{1} << (63 - kStateSumBits)) / static_cast<int64_t>(kMaxSummedState));

// That a slice's products go through an adapter.
struct AdapterUse {
  int32_t adapter = 0;  // index among those that the stage was loaded with
  float scale = 1;      // times the adapter's own; within +-kMaxAdapterScale
  bool operator==(const AdapterUse&) const = default;
};
inline constexpr int kMaxSliceAdapters = 8;
inline constexpr float kMaxAdapterScale = 100.0f;

// A run of consecutive tokens of one sequence in a step. Everything that the step needs comes with it: a stage keeps no
// state of a sequence but the contents of its KV pages.
struct Slice {
  int32_t position = 0;             // of the first token in its sequence; all are below kMaxPositions
  std::span<const int32_t> tokens;  // >= 1; read by the first stage, counted by the others
  std::span<const uint32_t> pages;  // the sequence's pages in order; covers position + tokens.size()
  SliceOutput output = SliceOutput::kNone;
  const SamplingParams* sampling = nullptr;  // kSample on the last stage: not null
  DrawState draw;                            // kSample: what the draw depends on beside `sampling`
  std::span<const AdapterUse> adapters;      // added in this order; at most kMaxSliceAdapters
  // kSample: the last `guesses` tokens, fewer than all, may not be what the sequence goes on with. Then `draw` has
  // neither dry nor allowed, sampling no mirostat, and draw.recent holds the guesses too.
  int32_t guesses = 0;
};

// The contents of page `from` become those of page `to` as well.
struct PageCopy {
  uint32_t from = 0, to = 0;
  bool operator==(const PageCopy&) const = default;
};

struct Step {
  std::vector<PageCopy> copies;  // done first, in this order; at most as many as there are pages
  // At least one, of different sequences: the result of none depends on the others, so a page that one of them writes
  // appears in no other.
  std::vector<Slice> slices;
  std::span<const float> hidden;  // [tokens of all slices, hidden]; empty on the first stage
};

struct SliceResult {
  int32_t slice = 0;  // index into Step::slices
  // kSample: the token behind the last one that is known, and behind each guess that equals the draw before it.
  std::vector<SampledToken> sampled;
  std::vector<float> logits;       // kLogits: [tokens of the slice, vocab]
  std::vector<float> state;        // kFirstState, kLastState: [hidden]
  std::vector<int64_t> state_sum;  // kStateSum: [hidden]
};

struct StepResult {
  std::vector<float> hidden;         // [tokens, hidden]; empty on the last stage
  std::vector<SliceResult> results;  // last stage: one per slice whose output is not kNone
};

// Called on the loading thread after each tensor.
using LoadProgress = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;

// Ownership: owns weights, KV pages, scratch and threads; borrows nothing after Load. Threading: Run by one thread at a
// time (the step thread).
class Stage {
 public:
  // `spec` was read from `file`, whose header names the tensors; their bytes come from `source`. Returns early with
  // kCancelled when `cancelled` (may be null) gives true. `progress` counts the model's tensors, not the adapters'.
  // Errors: kInvalidArgument (options), kResourceExhausted (memory; gives bytes wanted), those of `source` and of
  // ReadAdapter.
  static absl::StatusOr<std::unique_ptr<Stage>> Load(const ModelSpec& spec, const GgufFile& file, TensorSource& source,
                                                     const StageOptions& options, const LoadProgress& progress,
                                                     const std::function<bool()>& cancelled,
                                                     std::span<const AdapterSource> adapters = {});
  virtual ~Stage() = default;

  // Executes one step. Every index in `step` is checked: on error the KV pages of the step's slices and those copied to
  // are undefined, all others untouched. Errors: kInvalidArgument (names slice, field, value, limit), kInternal (a
  // value inside is infinite or not a number: broken weights), kOutOfRange (a state too large for kStateSum),
  // kResourceExhausted (no memory for the logits asked for).
  virtual absl::Status Run(const Step& step, StepResult* result) = 0;

  virtual const StageOptions& options() const = 0;
  virtual bool is_first() const = 0;
  virtual bool is_last() const = 0;
  virtual StageMemory memory() const = 0;  // what is really held
};

}  // namespace tandem::engine
