// `tandem perplexity FILE TEXT`: how well a model predicts a text, and how far its predictions are from another's.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/local_cluster.h"
#include "cli/progress_bar.h"
#include "coordinator/served_model.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/thread_pool.h"
#include "engine/evaluation/base_logits.h"
#include "engine/evaluation/prediction_quality.h"
#include "engine/evaluation/text_scoring.h"

namespace tandem::cli {
namespace {

struct Flags {
  TextModelFlags model;  // --context among them
  std::string text, base, save_base;
  int32_t stride = 0;
};

constexpr int32_t kDefaultContext = 512;

absl::StatusOr<std::string> ReadText(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": there is no text in it"));
  return text;
}

// What the scored rows are turned into, and the memory for it.
class Scores {
 public:
  Scores(int32_t vocab, engine::ThreadPool& pool) : vocab_(vocab), pool_(pool), scratch_(2 * pool.size()) {
    for (std::vector<double>& row : scratch_) row.resize(vocab);
  }

  // `base` is [targets, vocab] or empty.
  void Add(std::span<const int32_t> targets, std::span<const float> logits, std::span<const float> base) {
    const size_t first = nll_.size();
    nll_.resize(first + targets.size());
    if (!base.empty()) {
      base_nll_.resize(nll_.size());
      divergence_.resize(nll_.size());
      same_top_.resize(nll_.size());
    }
    pool_.ParallelFor(static_cast<int64_t>(targets.size()), 1, [&](int64_t begin, int64_t end, int part) {
      for (int64_t row = begin; row < end; ++row) {
        ScoreRow(targets[row], logits.subspan(row * vocab_, vocab_),
                 base.empty() ? base : base.subspan(row * vocab_, vocab_), part, first + row);
      }
    });
  }

  void Print() const {
    const engine::Perplexity perplexity = engine::PerplexityOf(nll_);
    std::printf("perplexity %.4f +/- %.4f (%zu tokens)\n", perplexity.value, perplexity.standard_error, nll_.size());
    if (divergence_.empty()) return;
    const engine::Perplexity base = engine::PerplexityOf(base_nll_);
    const engine::Distribution kl = engine::DistributionOf(divergence_);
    const auto same = std::count(same_top_.begin(), same_top_.end(), 1);
    std::printf("base perplexity %.4f +/- %.4f, ratio %.6f\n", base.value, base.standard_error,
                perplexity.value / base.value);
    std::printf(
        "KL divergence from the base, nats: mean %.6f +/- %.6f, median %.6f, 90 %% %.6f, 99 %% %.6f, 99.9 %% %.6f, "
        "largest %.6f\n",
        kl.mean, kl.standard_error, kl.median, kl.p90, kl.p99, kl.p999, kl.largest);
    std::printf("same most probable token: %.3f %%\n",
                100.0 * static_cast<double>(same) / static_cast<double>(same_top_.size()));
  }

 private:
  void ScoreRow(int32_t target, std::span<const float> logits, std::span<const float> base, int part, size_t index) {
    std::vector<double>& model_row = scratch_[2 * part];
    engine::LogSoftmax(logits, model_row);
    nll_[index] = -model_row[target];
    if (base.empty()) return;
    std::vector<double>& base_row = scratch_[2 * part + 1];
    engine::LogSoftmax(base, base_row);
    base_nll_[index] = -base_row[target];
    divergence_[index] = engine::Divergence(base_row, model_row);
    same_top_[index] = engine::LargestIndex(logits) == engine::LargestIndex(base) ? 1 : 0;
  }

  const int32_t vocab_;
  engine::ThreadPool& pool_;
  std::vector<std::vector<double>> scratch_;  // two rows a thread
  std::vector<double> nll_, base_nll_, divergence_;
  std::vector<char> same_top_;
};

// BOS, if the model wants it in front of a text, else -1.
int32_t LeadingToken(const engine::Tokenizer& tokenizer) {
  const std::vector<engine::TokenId> ids = tokenizer.Encode("a", {.add_special = true});
  return !ids.empty() && ids.front() == tokenizer.bos() ? tokenizer.bos() : -1;
}

absl::StatusOr<std::unique_ptr<engine::Stage>> LoadWhole(const coordinator::ServedModel& model,
                                                         const LocalClusterOptions& local, int32_t context,
                                                         const Interrupt& interrupt) {
  engine::StageOptions options;
  options.end_layer = model.spec().num_layers;
  options.kv_type = local.kv_type;
  options.num_pages = (context + options.page_tokens - 1) / options.page_tokens;
  options.max_step_tokens = std::min(context, options.max_step_tokens);
  options.isa = local.isa;
  options.threads = local.threads;
  options.pin_threads = false;
  engine::FileTensorSource source(model.file());
  ProgressBar bar(absl::StrCat("loading ", model.name()), /*shown=*/true);
  return engine::Stage::Load(
      model.spec(), model.file(), source, options,
      [&bar](uint64_t done, uint64_t total) { bar.Update(static_cast<double>(done) / static_cast<double>(total)); },
      [&interrupt] { return interrupt.requested(); });
}

absl::StatusOr<engine::ScoringOptions> OptionsFor(const Flags& flags, const coordinator::ServedModel& model) {
  engine::ScoringOptions options;
  const int32_t most = model.spec().context;
  options.context = flags.model.context > 0 ? flags.model.context : std::min(most, kDefaultContext);
  if (options.context > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("a context of ", options.context, " tokens is more than the model's ", most));
  }
  options.stride = flags.stride > 0 ? flags.stride : std::max(1, options.context / 2);
  options.bos = LeadingToken(model.tokenizer());
  return options;
}

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadText(flags.text));
  TANDEM_ASSIGN_OR_RETURN(const LocalClusterOptions local, LocalOptions(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const auto model, coordinator::ServedModel::Open(flags.model.model));
  TANDEM_ASSIGN_OR_RETURN(const engine::ScoringOptions options, OptionsFor(flags, *model));
  const std::vector<engine::TokenId> tokens = model->tokenizer().Encode(text, {});
  const uint64_t identity = engine::ScoringIdentity(tokens, options);
  const int32_t vocab = model->spec().vocab;
  std::unique_ptr<engine::BaseLogitsReader> base;
  std::unique_ptr<engine::BaseLogitsWriter> saved;
  if (!flags.base.empty()) {
    TANDEM_ASSIGN_OR_RETURN(base, engine::BaseLogitsReader::Open(flags.base, vocab, identity));
  }
  if (!flags.save_base.empty()) {
    TANDEM_ASSIGN_OR_RETURN(saved, engine::BaseLogitsWriter::Create(flags.save_base, vocab, identity));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Stage> stage,
                          LoadWhole(*model, local, options.context, interrupt));

  engine::ThreadPool pool(local.threads, /*pin=*/false);
  Scores scores(vocab, pool);
  ProgressBar bar(absl::StrCat("scoring ", tokens.size(), " tokens"), /*shown=*/true);
  std::vector<float> base_logits;
  TANDEM_RETURN_IF_ERROR(engine::ScoreText(
      *stage, vocab, tokens, options,
      [&](int64_t done, int64_t total) {
        bar.Update(static_cast<double>(done) / static_cast<double>(total));
        return !interrupt.requested();
      },
      [&](std::span<const int32_t> targets, std::span<const float> logits) -> absl::Status {
        if (saved != nullptr) TANDEM_RETURN_IF_ERROR(saved->Append(logits));
        if (base != nullptr) {
          base_logits.resize(logits.size());
          TANDEM_RETURN_IF_ERROR(base->Read(base_logits));
        }
        scores.Add(targets, logits, base_logits);
        return absl::OkStatus();
      }));
  if (saved != nullptr) TANDEM_RETURN_IF_ERROR(saved->Finish());
  scores.Print();
  return absl::OkStatus();
}

}  // namespace

void AddPerplexity(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("perplexity", "Measure how well a model predicts a text");
  auto flags = std::make_shared<Flags>();
  command->add_option("FILE", flags->model.model, "GGUF file")->required();
  command->add_option("TEXT", flags->text, "Text file, or - for standard input")->required();
  command
      ->add_option("--stride", flags->stride,
                   "Tokens by which a window of --context tokens follows the one before it; default: half of --context")
      ->check(CLI::PositiveNumber);
  command->add_option("--save-base", flags->save_base,
                      "Write the logits to a file (4 bytes for each token of the text and of the vocabulary)");
  command->add_option("--base", flags->base, "Compare with logits that --save-base wrote: KL divergence, same choices");
  AddLocalClusterFlags(*command, &flags->model, nullptr);
  command->get_option("--context")
      ->description("Tokens that the model sees at most; default: the model's, at most 512");
  command->footer(
      "Every token is scored once, with at least --context less --stride tokens before it but at the beginning.");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
