// Speed of a whole stage: decoding one token after a context, and prefill of a chunk. The model is random, about 100
// million parameters, so its weights do not stay in the caches. Run:
//   build/bin/stage_bench --benchmark_filter=Decode
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

constexpr int kChunk = 256;

std::unique_ptr<testing::StageRunner> MakeRunner(TensorType type, int threads) {
  const testing::TinyFile tiny = testing::ParseTinyModel({.layers = 8,
                                                          .hidden = 1024,
                                                          .ffn = 2816,
                                                          .heads = 16,
                                                          .kv_heads = 4,
                                                          .head_dim = 64,
                                                          .vocab_size = 2048,
                                                          .context = 4096,
                                                          .type = type});
  auto runner = testing::StageRunner::Create(
      *tiny.file,
      {.kv_type = KvType::kF16, .threads = threads, .page_tokens = 32, .num_pages = 128, .max_step_tokens = kChunk});
  return runner.ok() ? *std::move(runner) : nullptr;
}

// Tokens of a step at `position`; the pages before it hold zeros, which cost as much as anything else.
void RunSteps(benchmark::State& state, int tokens, int position) {
  const auto runner = MakeRunner(static_cast<TensorType>(state.range(0)), static_cast<int>(state.range(1)));
  if (runner == nullptr) {
    state.SkipWithError("the model does not load");
    return;
  }
  const std::vector<int32_t> ids(tokens, 17);
  const std::vector<uint32_t> pages = runner->PagesFrom(0, position + tokens);
  const SamplingParams greedy;
  Step step;
  step.slices.push_back(
      {.position = position, .tokens = ids, .pages = pages, .output = SliceOutput::kSample, .sampling = &greedy});
  StepResult result;
  for (auto _ : state) {
    if (!runner->Run(step, &result).ok()) state.SkipWithError("the step failed");
  }
  state.SetItemsProcessed(state.iterations() * tokens);
  state.counters["weights_bytes_per_s"] = benchmark::Counter(
      static_cast<double>(state.iterations() * runner->stage(0).memory().weights), benchmark::Counter::kIsRate);
  state.SetLabel(std::string(FindBlockFormat(static_cast<TensorType>(state.range(0)))->name));
}

void Decode(benchmark::State& state) { RunSteps(state, 1, static_cast<int>(state.range(2))); }
void Prefill(benchmark::State& state) { RunSteps(state, kChunk, static_cast<int>(state.range(2))); }

const std::vector<int64_t> kTypes = {static_cast<int64_t>(TensorType::kQ8_0), static_cast<int64_t>(TensorType::kF16)};
BENCHMARK(Decode)
    ->ArgNames({"type", "threads", "position"})
    ->ArgsProduct({kTypes, {1, 2}, {0, 2048}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(Prefill)
    ->ArgNames({"type", "threads", "position"})
    ->ArgsProduct({kTypes, {1, 2}, {0, 2048}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace tandem::engine

BENCHMARK_MAIN();
