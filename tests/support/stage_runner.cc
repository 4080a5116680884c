#include "tests/support/stage_runner.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"

namespace tandem::testing {

using engine::Slice;
using engine::SliceOutput;
using engine::Step;
using engine::StepResult;

absl::StatusOr<std::unique_ptr<StageRunner>> StageRunner::Create(const engine::GgufFile& file,
                                                                 const StageRunnerOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(engine::ModelSpec spec, engine::ReadModelSpec(file));
  std::unique_ptr<StageRunner> runner(new StageRunner(std::move(spec), options));
  engine::FileTensorSource source(file);
  std::vector<std::unique_ptr<engine::FileTensorSource>> adapter_sources;
  std::vector<engine::AdapterSource> adapters;
  for (const engine::GgufFile* adapter : options.adapters) {
    adapter_sources.push_back(std::make_unique<engine::FileTensorSource>(*adapter));
    adapters.push_back({adapter, adapter_sources.back().get()});
  }
  for (int i = 0; i < options.stages; ++i) {
    engine::StageOptions stage;
    stage.first_layer = runner->spec_.num_layers * i / options.stages;
    stage.end_layer = runner->spec_.num_layers * (i + 1) / options.stages;
    stage.kv_type = options.kv_type;
    stage.page_tokens = options.page_tokens;
    stage.num_pages = options.num_pages;
    stage.max_step_tokens = options.max_step_tokens;
    stage.isa = options.isa;
    stage.threads = options.threads;
    stage.pin_threads = false;
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<engine::Stage> loaded,
                            engine::Stage::Load(runner->spec_, file, source, stage, nullptr, nullptr, adapters));
    runner->stages_.push_back(std::move(loaded));
  }
  return runner;
}

absl::Status StageRunner::Run(Step step, StepResult* result) {
  std::vector<float> hidden;
  for (const auto& stage : stages_) {
    step.hidden = hidden;
    TANDEM_RETURN_IF_ERROR(stage->Run(step, result));
    hidden = std::move(result->hidden);
  }
  return absl::OkStatus();
}

std::vector<uint32_t> StageRunner::PagesFrom(uint32_t first, int tokens) const {
  std::vector<uint32_t> pages((tokens + options_.page_tokens - 1) / options_.page_tokens);
  for (uint32_t& page : pages) page = first++;
  return pages;
}

absl::StatusOr<std::vector<float>> StageRunner::Logits(std::span<const int32_t> tokens, int chunk,
                                                       std::span<const engine::AdapterUse> adapters) {
  const std::vector<uint32_t> pages = PagesFrom(0, static_cast<int>(tokens.size()));
  std::vector<float> logits;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    Step step;
    step.slices.push_back({.position = static_cast<int32_t>(begin),
                           .tokens = tokens.subspan(begin, std::min<size_t>(chunk, tokens.size() - begin)),
                           .pages = pages,
                           .output = SliceOutput::kLogits,
                           .adapters = adapters});
    StepResult result;
    TANDEM_RETURN_IF_ERROR(Run(step, &result));
    const std::vector<float>& part = result.results.at(0).logits;
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

absl::StatusOr<std::vector<int32_t>> StageRunner::Greedy(std::span<const int32_t> prompt, int count) {
  const engine::SamplingParams greedy;
  const std::vector<uint32_t> pages = PagesFrom(0, static_cast<int>(prompt.size()) + count);
  std::vector<int32_t> generated;
  std::vector<int32_t> next(prompt.begin(), prompt.end());
  int32_t position = 0;
  while (static_cast<int>(generated.size()) < count) {
    Step step;
    step.slices.push_back(
        {.position = position, .tokens = next, .pages = pages, .output = SliceOutput::kSample, .sampling = &greedy});
    StepResult result;
    TANDEM_RETURN_IF_ERROR(Run(step, &result));
    position += static_cast<int32_t>(next.size());
    next = {result.results.at(0).sampled.at(0).token};
    generated.push_back(next[0]);
  }
  return generated;
}

}  // namespace tandem::testing
