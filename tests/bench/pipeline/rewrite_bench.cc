// What looking guesses up in the text makes of a request to rewrite a source file: one client, with and without. The
// texts are real (rewrites.json), and so is everything that computes if --model is given: its layers, head and sampler,
// but the tokens drawn are then those of the text, since no model is at hand that rewrites code. Else stages sleep.
//   build/bench/bin/rewrite_bench [--model MODEL.gguf] [--vocabulary VOCABULARY.gguf] [--cores 0,1] [--stages 4]
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/model_spec.h"
#include "tests/bench/pipeline/delayed_stage.h"
#include "tests/bench/pipeline/one_request.h"
#include "tests/bench/pipeline/replayed_stage.h"
#include "tests/bench/pipeline/rewrite_text.h"

namespace tandem::bench {
namespace {

struct Options {
  std::string model, root = TANDEM_SOURCE_DIR, vocabulary = TANDEM_SOURCE_DIR "/models/tandem-demo.gguf";
  std::vector<std::string> only;
  std::vector<int> cores;  // of real stages, one each; empty: one stage, not bound
  int threads = 1;         // of each real stage
  int32_t stages = 1;      // that sleep
  // Of the 1B shape in Q4_K_M on one core, all layers together: of a step, and more for each of its tokens.
  double step_ms = 20, token_ms = 3.75;
  int32_t guessed_tokens = coordinator::kDefaultGuessedTokens;
  int rounds = 1;
  size_t answer = 100000;  // tokens of it at most
};

constexpr int32_t kDelayedLayers = 16;

int32_t NumStages(const Options& options) {
  if (options.model.empty()) return options.stages;
  return std::max(1, static_cast<int32_t>(options.cores.size()));
}

class Model {
 public:
  static absl::StatusOr<Model> Open(const Options& options, int32_t vocab) {
    Model model;
    if (options.model.empty()) {
      model.spec_.hidden = kDelayedHidden;
      model.spec_.vocab = vocab;
      model.spec_.num_layers = kDelayedLayers;
      return model;
    }
    TANDEM_ASSIGN_OR_RETURN(model.file_, engine::GgufFile::Open(options.model));
    TANDEM_ASSIGN_OR_RETURN(model.spec_, engine::ReadModelSpec(*model.file_));
    if (model.spec_.vocab >= vocab) return model;
    return absl::InvalidArgumentError(absl::StrCat("the model has ", model.spec_.vocab, " tokens, the vocabulary ",
                                                   vocab, ": name a smaller --vocabulary"));
  }

  // The stages of a pipeline that says `text`.
  absl::StatusOr<std::vector<std::unique_ptr<engine::Stage>>> Stages(const Options& options,
                                                                     const coordinator::PipelineSpec& pipeline,
                                                                     const std::vector<int32_t>& text) const {
    std::vector<std::unique_ptr<engine::Stage>> stages;
    const int32_t count = NumStages(options), layers = spec_.num_layers;
    for (int32_t i = 0; i < count; ++i) {
      engine::StageOptions stage{.first_layer = i * layers / count, .end_layer = (i + 1) * layers / count};
      stage.num_pages = pipeline.num_pages;
      stage.max_step_tokens = pipeline.max_step_tokens;
      stage.isa = engine::DetectIsa();
      stage.threads = options.threads;
      stage.pin_threads = false;
      if (file_ == nullptr) {
        const LayerDelay delay{.step_s = options.step_ms * 1e-3 / layers, .token_s = options.token_ms * 1e-3 / layers};
        stages.push_back(std::make_unique<DelayedStage>(stage, layers, delay, [text](int32_t, int32_t position) {
          return text.at(static_cast<size_t>(position) + 1);
        }));
        continue;
      }
      engine::FileTensorSource source(*file_);
      TANDEM_ASSIGN_OR_RETURN(auto inside, engine::Stage::Load(spec_, *file_, source, stage, nullptr, nullptr));
      const int core = options.cores.empty() ? -1 : options.cores[static_cast<size_t>(i)];
      stages.push_back(std::make_unique<ReplayedStage>(std::move(inside), text, core));
    }
    return stages;
  }

  const engine::ModelSpec& spec() const { return spec_; }

 private:
  std::unique_ptr<engine::GgufFile> file_;  // null: stages sleep
  engine::ModelSpec spec_;
};

absl::StatusOr<coordinator::GenerationResult> Measure(const Options& options, const Model& model,
                                                      const RewriteText& text, int32_t guessed_tokens) {
  std::vector<int32_t> all = text.prompt;
  all.insert(all.end(), text.answer.begin(), text.answer.end());
  const coordinator::PipelineSpec pipeline = PipelineFor(static_cast<int32_t>(all.size()) + 1);
  TANDEM_ASSIGN_OR_RETURN(auto stages, model.Stages(options, pipeline, all));
  coordinator::Dispatcher::Options dispatch;
  dispatch.max_guessed_tokens = guessed_tokens;
  TANDEM_ASSIGN_OR_RETURN(const Answer answer,
                          RunRequest(std::move(stages), model.spec(), pipeline, std::move(dispatch), text.prompt,
                                     static_cast<int32_t>(text.answer.size())));
  if (answer.tokens != text.answer) return absl::InternalError("an answer is not what the model says");
  return answer.result;
}

absl::Status Compare(const Options& options, const Model& model, const RewriteText& text) {
  std::vector<double> rates[2];
  coordinator::GenerationResult result;
  for (int round = 0; round < options.rounds; ++round) {
    for (const int32_t guessed_tokens : {0, options.guessed_tokens}) {
      TANDEM_ASSIGN_OR_RETURN(result, Measure(options, model, text, guessed_tokens));
      rates[guessed_tokens > 0].push_back((result.generated_tokens - 1) / result.decode_s);
    }
  }
  for (std::vector<double>& rate : rates) std::sort(rate.begin(), rate.end());
  const double without = rates[0][rates[0].size() / 2], with = rates[1][rates[1].size() / 2];
  std::printf("%-10s %6zu %6zu %4d of %3d %8.1f %8.1f %6.2f %6d of %5d\n", text.name.c_str(), text.prompt.size(),
              text.answer.size(), text.changed_lines, text.lines, without, with, with / without, result.right_guesses,
              result.guessed_tokens);
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status CompareAll(const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const auto file, engine::GgufFile::Open(options.vocabulary));
  TANDEM_ASSIGN_OR_RETURN(const auto tokenizer, engine::Tokenizer::Create(*file));
  TANDEM_ASSIGN_OR_RETURN(std::vector<RewriteText> texts, ReadRewrites(options.root, *tokenizer));
  for (RewriteText& text : texts) text.answer.resize(std::min(text.answer.size(), options.answer));
  TANDEM_ASSIGN_OR_RETURN(const Model model, Model::Open(options, tokenizer->vocab_size()));
  std::printf("%-10s %6s %6s %11s %8s %8s %6s %15s\n", "tokens/s", "prompt", "answer", "new lines", "plain", "lookup",
              "ratio", "right guesses");
  for (const RewriteText& text : texts) {
    const bool wanted =
        options.only.empty() || std::find(options.only.begin(), options.only.end(), text.name) != options.only.end();
    if (wanted) TANDEM_RETURN_IF_ERROR(Compare(options, model, text));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  tandem::proto_support::PrepareGrpc();
  CLI::App app("Rewriting source files with guesses that are looked up in the text, and without");
  tandem::bench::Options options;
  app.add_option("--model", options.model, "GGUF file whose layers are computed; default: stages sleep");
  app.add_option("--vocabulary", options.vocabulary, "GGUF file of the tokenizer")->capture_default_str();
  app.add_option("--root", options.root, "Source tree of the files")->capture_default_str();
  app.add_option("--only", options.only, "Names of texts; default: all")->delimiter(',');
  app.add_option("--cores", options.cores, "With --model: a stage on each of these; default: one stage on any")
      ->delimiter(',');
  app.add_option("--threads", options.threads, "With --model: of each stage")->capture_default_str();
  app.add_option("--stages", options.stages, "That sleep")->check(CLI::Range(1, 16))->capture_default_str();
  app.add_option("--step-ms", options.step_ms, "Milliseconds that all sleep together for a step")
      ->capture_default_str();
  app.add_option("--token-ms", options.token_ms, "More for each token of it")->capture_default_str();
  app.add_option("--speculate", options.guessed_tokens, "As of tandem-coordinator")
      ->check(CLI::Range(1, tandem::coordinator::kMaxGuessedTokens))
      ->capture_default_str();
  app.add_option("--answer", options.answer, "Tokens of each answer at most")
      ->check(CLI::Range(2, 100000))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Runs of which the median counts")
      ->check(CLI::Range(1, 99))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = tandem::bench::CompareAll(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "rewrite_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}
