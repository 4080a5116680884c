// The stage that computes on this machine's processor.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/cache/kv_pages.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/adapter_products.h"
#include "engine/model/adapter_weights.h"
#include "engine/model/linear.h"
#include "engine/model/rope.h"
#include "engine/model/scratch.h"
#include "engine/model/step_check.h"
#include "engine/model/transformer_block.h"
#include "engine/model/weights.h"
#include "engine/stage.h"

namespace tandem::engine {

// See Stage. A step is: check, embed or take over the hidden state, rotations of its positions, the layers, and then
// either the hidden state for the next stage or the head and the draws.
class CpuStage : public Stage {
 public:
  // As Stage::Load, once the options have been checked. May throw std::bad_alloc.
  static absl::StatusOr<std::unique_ptr<Stage>> Create(const ModelSpec& spec, const GgufFile& file,
                                                       TensorSource& source, const StageOptions& options,
                                                       const LoadProgress& progress,
                                                       const std::function<bool()>& cancelled,
                                                       std::span<const AdapterSource> sources);

  absl::Status Run(const Step& step, StepResult* result) override;

  const StageOptions& options() const override { return options_; }
  bool is_first() const override { return options_.first_layer == 0; }
  bool is_last() const override { return options_.end_layer == spec_.num_layers; }
  StageMemory memory() const override;

 private:
  CpuStage(const ModelSpec& spec, const StageOptions& options, std::unique_ptr<ThreadPool> pool,
           const ScratchShape& scratch_shape, std::unique_ptr<KvPages> kv, StageWeights weights,
           AdapterWeights adapters, std::vector<RopeFrequencies> ropes);

  // A row of the step whose logits are wanted.
  struct HeadRow {
    int64_t token = 0;  // row of the hidden state
    int32_t slice = 0;  // index into Step::slices
    SliceResult* result = nullptr;
    float* logits = nullptr;  // where they are copied to; null: a token is drawn
    int32_t draw = 0;         // which of the slice's
  };

  absl::Status RunChecked(const Step& step, int64_t tokens, StepResult* result);
  void FillInput(const Step& step, int64_t tokens);
  void Embed(const Slice& slice, const TokenPlace& place, float* out) const;
  absl::Status RunHead(const Step& step, StepResult* result);
  // The output norm of row `token` of the hidden state, to out[hidden].
  void NormOutput(int64_t token, float* out) const;
  std::vector<HeadRow> ChooseHeadRows(const Step& step, StepResult* result) const;
  // Logits of `rows`, at most shape.logit_rows of them, into scratch.logits.
  absl::Status ComputeLogits(std::span<const HeadRow> rows);
  void ScaleLogits(int64_t count, float* logits) const;
  absl::Status FinishRows(const Step& step, std::span<const HeadRow> rows);
  absl::Status FinishRow(const Step& step, const HeadRow& row, std::span<const float> logits) const;

  const ModelSpec spec_;
  const StageOptions options_;
  const KernelTable& kernels_;
  const std::unique_ptr<ThreadPool> pool_;
  const ScratchShape scratch_shape_;
  Scratch scratch_;
  const std::unique_ptr<KvPages> kv_;
  const StageWeights weights_;
  const AdapterWeights adapters_;             // by addresses in weights_
  const std::vector<RopeFrequencies> ropes_;  // as Scratch::rotations
  const Linear linear_;
  AdapterProducts adapter_products_;
  TransformerBlock block_;
  StepChecker checker_;
};

}  // namespace tandem::engine
