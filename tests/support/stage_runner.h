// Drives the stages of a model in one thread, without a coordinator or a network: what a pipeline computes, stripped
// to the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/stage.h"

namespace tandem::testing {

struct StageRunnerOptions {
  int stages = 1;  // the layers are cut into so many ranges of about one length
  engine::KvType kv_type = engine::KvType::kF32;
  engine::Isa isa = engine::DetectIsa();
  int threads = 1;
  int page_tokens = 16;
  int num_pages = 64;
  int max_step_tokens = 64;
  std::vector<const engine::GgufFile*> adapters = {};
};

// Threading: used by one thread. Borrows nothing after Create.
class StageRunner {
 public:
  static absl::StatusOr<std::unique_ptr<StageRunner>> Create(const engine::GgufFile& file,
                                                             const StageRunnerOptions& options);

  // One step through all stages; step.hidden is empty. The result is that of the last stage.
  absl::Status Run(engine::Step step, engine::StepResult* result);

  // Logits at every position of `tokens`, [tokens, vocab], fed in chunks of at most `chunk` tokens. Uses pages from 0.
  absl::StatusOr<std::vector<float>> Logits(std::span<const int32_t> tokens, int chunk,
                                            std::span<const engine::AdapterUse> adapters = {});
  // The `count` tokens that follow `prompt` greedily. Uses pages from 0.
  absl::StatusOr<std::vector<int32_t>> Greedy(std::span<const int32_t> prompt, int count);

  const engine::ModelSpec& spec() const { return spec_; }
  int stages() const { return static_cast<int>(stages_.size()); }
  engine::Stage& stage(int index) { return *stages_[index]; }
  // {first, first + 1, ...}, as many as hold `tokens` tokens.
  std::vector<uint32_t> PagesFrom(uint32_t first, int tokens) const;

 private:
  StageRunner(engine::ModelSpec spec, const StageRunnerOptions& options) : spec_(std::move(spec)), options_(options) {}

  const engine::ModelSpec spec_;
  const StageRunnerOptions options_;
  std::vector<std::unique_ptr<engine::Stage>> stages_;
};

}  // namespace tandem::testing
