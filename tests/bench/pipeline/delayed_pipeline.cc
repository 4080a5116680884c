// Four stages that sleep instead of computing, beside one that sleeps as long as all of them: real scheduler,
// dispatcher, step loops and gRPC hops on loopback. A prompt of 2,048 tokens, and one client's decode with and without
// a draft model.
//   build/bench/bin/delayed_pipeline [--stages 4] [--right 0.7]
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "engine/base/status_macros.h"
#include "tests/bench/pipeline/delayed_stage.h"
#include "tests/bench/pipeline/one_request.h"

namespace tandem::bench {
namespace {

struct Options {
  int32_t layers = 16;
  int32_t stages = 4;
  int rounds = 3;
  // A model that reads 24 ms of weights for a token, and a draft model of a fortieth of that (1.5B beside 65B).
  double step_ms = 1.5;   // of a layer and step
  double draft_ms = 0.6;  // of a drafted token
  double right = 0.7;     // of the drafted tokens
  double token_us = 50;   // of a layer and token of a prompt
  int32_t decode = 200, prefill = 2048;
};

struct Run {
  double prefill_s = 0, decode_s = 0;
  coordinator::GenerationResult result;
};

// One request of `prompt` tokens on a new pipeline. `right`: with a drafter.
absl::StatusOr<Run> Measure(const Options& options, int32_t stages, LayerDelay delay, int32_t prompt, int32_t answer,
                            std::optional<double> right) {
  engine::ModelSpec spec;
  spec.hidden = kDelayedHidden;
  spec.vocab = kDelayedVocab;
  spec.num_layers = options.layers;
  coordinator::Dispatcher::Options dispatch;
  dispatch.max_guessed_tokens = coordinator::kDefaultGuessedTokens;
  if (right) dispatch.drafter = std::make_unique<DelayedDrafter>(*right, options.draft_ms * 1e-3);
  const coordinator::PipelineSpec pipeline = PipelineFor(prompt + answer);
  std::vector<std::unique_ptr<engine::Stage>> delayed;
  for (int32_t i = 0; i < stages; ++i) {
    engine::StageOptions stage{.first_layer = i * options.layers / stages,
                               .end_layer = (i + 1) * options.layers / stages};
    stage.max_step_tokens = pipeline.max_step_tokens;
    stage.num_pages = pipeline.num_pages;
    delayed.push_back(std::make_unique<DelayedStage>(stage, options.layers, delay));
  }
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < prompt; ++i) ids.push_back(i % kDelayedVocab);
  TANDEM_ASSIGN_OR_RETURN(const Answer got,
                          RunRequest(std::move(delayed), spec, pipeline, std::move(dispatch), ids, answer));
  int32_t token = ids.back();
  for (int32_t i = 0; i < answer; ++i) {
    token = NextToken(token, prompt - 1 + i);
    if (got.tokens[i] != token) return absl::InternalError("an answer is not what the model says");
  }
  return Run{got.result.prefill_s, got.result.decode_s, got.result};
}

absl::StatusOr<double> Median(const Options& options, const auto& measure) {
  std::vector<double> values(options.rounds);
  for (double& value : values) {
    TANDEM_ASSIGN_OR_RETURN(value, measure());
  }
  std::nth_element(values.begin(), values.begin() + options.rounds / 2, values.end());
  return values[options.rounds / 2];
}

absl::Status Prefill(const Options& options) {
  double rates[2];
  for (const bool split : {false, true}) {
    TANDEM_ASSIGN_OR_RETURN(const double seconds, Median(options, [&]() -> absl::StatusOr<double> {
                              TANDEM_ASSIGN_OR_RETURN(
                                  const Run run, Measure(options, split ? options.stages : 1,
                                                         {.token_s = options.token_us * 1e-6}, options.prefill, 1, {}));
                              return run.prefill_s;
                            }));
    rates[split] = options.prefill / seconds;
  }
  std::printf("prefill of %d tokens: %.0f tokens/s on one stage, %.0f on %d: ratio %.2f\n", options.prefill, rates[0],
              rates[1], options.stages, rates[1] / rates[0]);
  return absl::OkStatus();
}

absl::Status Decode(const Options& options) {
  double rates[2];
  coordinator::GenerationResult result;
  for (const bool drafted : {false, true}) {
    TANDEM_ASSIGN_OR_RETURN(
        const double seconds, Median(options, [&]() -> absl::StatusOr<double> {
          TANDEM_ASSIGN_OR_RETURN(
              const Run run, Measure(options, options.stages, {.step_s = options.step_ms * 1e-3}, 16, options.decode,
                                     drafted ? std::optional<double>(options.right) : std::nullopt));
          result = run.result;
          return run.decode_s;
        }));
    rates[drafted] = (options.decode - 1) / seconds;
  }
  std::printf(
      "decode of one client on %d stages: %.1f tokens/s, with drafts %.1f: ratio %.2f (%d of %d guesses right)\n",
      options.stages, rates[0], rates[1], rates[1] / rates[0], result.right_guesses, result.guessed_tokens);
  return absl::OkStatus();
}

int Main(const Options& options) {
  absl::Status status = Prefill(options);
  if (status.ok()) status = Decode(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "delayed_pipeline: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  tandem::proto_support::PrepareGrpc();
  CLI::App app("Stages that sleep instead of computing: what a pipeline gains of four of them");
  tandem::bench::Options options;
  app.add_option("--layers", options.layers, "Layers of the model")->capture_default_str();
  app.add_option("--stages", options.stages, "Stages to compare with one")->capture_default_str();
  app.add_option("--rounds", options.rounds, "Runs of which the median counts")
      ->check(CLI::Range(1, 99))
      ->capture_default_str();
  app.add_option("--step-ms", options.step_ms, "Milliseconds of a layer and decode step")->capture_default_str();
  app.add_option("--token-us", options.token_us, "Microseconds of a layer and token of a prompt")
      ->capture_default_str();
  app.add_option("--draft-ms", options.draft_ms, "Milliseconds of a drafted token")->capture_default_str();
  app.add_option("--right", options.right, "Share of drafted tokens that is right")->capture_default_str();
  app.add_option("--decode", options.decode, "Tokens of the answer")
      ->check(CLI::Range(2, 100000))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return tandem::bench::Main(options);
}
