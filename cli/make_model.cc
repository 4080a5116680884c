// `tandem make-model OUT`: a model file with random weights, for benchmarks and for trials of what fits.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/file_type_flag.h"
#include "cli/progress_bar.h"
#include "engine/base/format_bytes.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"
#include "engine/conversion/random_model.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string shape = "llama-1b", type = "q4_k_m", out, architecture;
  int32_t layers = 0, hidden = 0, ffn = 0, heads = 0, kv_heads = 0, vocab = 0, context = 0;
  uint64_t seed = 1;
  int threads = 0;
};

std::string ShapeNames() {
  return absl::StrJoin(engine::AllModelShapes(), ", ",
                       [](std::string* out, const engine::ModelShape& shape) { absl::StrAppend(out, shape.name); });
}

// The named shape with what the flags change.
absl::StatusOr<engine::ModelShape> ShapeOf(const Flags& flags) {
  const engine::ModelShape* named = engine::FindModelShape(flags.shape);
  if (named == nullptr) {
    return absl::OutOfRangeError(absl::StrCat("--shape: no shape '", flags.shape, "'; there are ", ShapeNames()));
  }
  engine::ModelShape shape = *named;
  const auto change = [&shape](int32_t value, int32_t* field) {
    if (value == 0) return;
    *field = value;
    shape.name = "custom";
  };
  change(flags.layers, &shape.layers);
  change(flags.hidden, &shape.hidden);
  change(flags.ffn, &shape.ffn);
  change(flags.heads, &shape.heads);
  // DeepSeek's heads share one compressed key, and their size does not follow from the hidden state's.
  const bool plain_heads = shape.deepseek.kv_rank == 0;
  if (plain_heads) change(flags.heads, &shape.kv_heads);
  change(flags.kv_heads, &shape.kv_heads);
  change(flags.vocab, &shape.vocab);
  change(flags.context, &shape.context);
  if (!flags.architecture.empty()) shape.architecture = flags.architecture;
  if (plain_heads && (flags.hidden != 0 || flags.heads != 0)) shape.head_dim = shape.hidden / shape.heads;
  return shape;
}

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  TANDEM_ASSIGN_OR_RETURN(const engine::ModelShape shape, ShapeOf(flags));
  TANDEM_ASSIGN_OR_RETURN(const engine::FileType* type, ParseFileType("--type", flags.type));
  engine::ThreadPool pool(flags.threads, /*pin=*/false);
  ProgressBar bar(absl::StrCat("writing ", flags.out), /*shown=*/true);
  uint64_t bytes = 0;
  TANDEM_RETURN_IF_ERROR(engine::WriteRandomModel(
      shape, *type, flags.seed, flags.out, pool,
      [&](uint64_t done, uint64_t total) {
        bytes = total;
        bar.Update(static_cast<double>(done) / static_cast<double>(total));
      },
      [&interrupt] { return interrupt.requested(); }));
  std::fprintf(stderr, "%s: %s, %s, %s of random weights\n", flags.out.c_str(), shape.name.c_str(),
               std::string(type->name).c_str(), FormatBytes(bytes).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddMakeModel(CLI::App& app, Action* action) {
  CLI::App* command =
      app.add_subcommand("make-model", "Write a model file with random weights, for benchmarks and capacity trials");
  auto flags = std::make_shared<Flags>();
  command->add_option("OUT", flags->out, "GGUF file to write")->required();
  command->add_option("--shape", flags->shape, ShapeNames())->capture_default_str();
  command->add_option("--type", flags->type, "As model files are called: q4_k_m, q8_0, iq2_xxs, f16...")
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "The same seed gives the same file")->capture_default_str();
  command->add_option("--threads", flags->threads, "Default: one for each core")->check(CLI::PositiveNumber);
  const std::string group = "Another shape than the named one";
  for (CLI::Option* option : {
           command->add_option("--layers", flags->layers, "Transformer layers"),
           command->add_option("--hidden", flags->hidden, "Size of the hidden state"),
           command->add_option("--ffn", flags->ffn, "Size of the feed-forward layer"),
           command->add_option("--heads", flags->heads, "Attention heads"),
           command->add_option("--kv-heads", flags->kv_heads, "KV heads; default with --heads: as many"),
           command->add_option("--vocab", flags->vocab, "Tokens"),
           command->add_option("--context", flags->context, "Positions that the model says it was made for"),
       }) {
    option->check(CLI::PositiveNumber)->group(group);
  }
  command
      ->add_option("--arch", flags->architecture, "llama, qwen2, qwen3 or qwen3moe; deepseek2 with --shape deepseek-v3")
      ->group(group);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
