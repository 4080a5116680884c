// `tandem quantize IN OUT TYPE`: a model file with other formats of its tensors.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/file_type_flag.h"
#include "cli/progress_bar.h"
#include "engine/base/format_bytes.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"
#include "engine/conversion/quantize_model.h"
#include "engine/gguf/gguf_split.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string in, out, type, imatrix, embedding, head;
  bool allow_requantize = false;
  int threads = 0;
};

// Reading a file while it is replaced is possible, but more often a slip than meant.
absl::Status CheckDifferentFiles(const std::string& in, const std::string& out) {
  std::vector<std::string> inputs = {in};
  if (const auto split = engine::ParseSplitName(in); split.has_value()) {
    for (uint32_t part = 1; part <= std::min(split->count, engine::kMaxParts); ++part) {
      inputs.push_back(split->PathOf(part));
    }
  }
  for (const std::string& input : inputs) {
    std::error_code error;
    if (!std::filesystem::equivalent(input, out, error) || error) continue;
    return absl::InvalidArgumentError(absl::StrCat(out, " is the file that is read; give OUT another name"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<engine::TensorType>> ParseTensorType(const char* flag, const std::string& name) {
  if (name.empty()) return std::nullopt;
  const engine::BlockFormat* format = engine::FindBlockFormat(name);
  if (format != nullptr && format->quantize != nullptr) return format->type;
  std::vector<absl::string_view> names;
  for (const engine::BlockFormat& known : engine::AllBlockFormats()) {
    if (known.quantize != nullptr) names.push_back(known.name);
  }
  return absl::OutOfRangeError(
      absl::StrCat(flag, ": Tandem does not write the format '", name, "'; it does ", absl::StrJoin(names, ", ")));
}

void PrintWarnings(const engine::GgufFile& file, const std::vector<engine::TensorChange>& plan) {
  size_t again = 0, unweighted = 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    again += plan[i].requantized ? 1 : 0;
    unweighted += plan[i].lacks_importance ? 1 : 0;
    if (!plan[i].fell_back) continue;
    std::fprintf(stderr, "warning: %s becomes %s: its rows of %llu do not fit the format of the file type\n",
                 file.tensors()[i].name.c_str(), std::string(engine::FindBlockFormat(plan[i].to)->name).c_str(),
                 static_cast<unsigned long long>(file.tensors()[i].cols()));
  }
  if (again > 0) {
    std::fprintf(stderr, "warning: %zu tensors are quantised again: the result is worse than from the original\n",
                 again);
  }
  if (unweighted > 0) {
    std::fprintf(stderr, "warning: the importance matrix lacks %zu of the tensors that are quantised\n", unweighted);
  }
}

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  engine::QuantizeOptions options{.allow_requantize = flags.allow_requantize};
  TANDEM_ASSIGN_OR_RETURN(options.type, ParseFileType("TYPE", flags.type));
  TANDEM_ASSIGN_OR_RETURN(options.embedding, ParseTensorType("--token-embedding-type", flags.embedding));
  TANDEM_ASSIGN_OR_RETURN(options.head, ParseTensorType("--output-type", flags.head));
  TANDEM_RETURN_IF_ERROR(CheckDifferentFiles(flags.in, flags.out));
  std::optional<engine::ImportanceMatrix> importance;
  if (!flags.imatrix.empty()) {
    TANDEM_ASSIGN_OR_RETURN(importance, engine::ImportanceMatrix::Load(flags.imatrix));
    options.importance = &*importance;
  }
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(flags.in));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<engine::TensorChange> plan, engine::PlanQuantization(*file, options));
  PrintWarnings(*file, plan);

  engine::ThreadPool pool(flags.threads, /*pin=*/false);
  ProgressBar bar(absl::StrCat("quantising to ", options.type->name), /*shown=*/true);
  uint64_t bytes = 0, weights = 0;
  for (const engine::GgufTensor& tensor : file->tensors()) weights += tensor.cols() * tensor.rows();
  TANDEM_RETURN_IF_ERROR(engine::QuantizeModel(
      *file, options, plan, flags.out, pool,
      [&](uint64_t done, uint64_t total) {
        bytes = total;
        bar.Update(static_cast<double>(done) / static_cast<double>(total));
      },
      [&interrupt] { return interrupt.requested(); }));
  std::fprintf(stderr, "%s: %s, %s of weights, %.2f bits each\n", flags.out.c_str(),
               std::string(options.type->name).c_str(), FormatBytes(bytes).c_str(),
               8.0 * static_cast<double>(bytes) / static_cast<double>(std::max<uint64_t>(weights, 1)));
  return absl::OkStatus();
}

}  // namespace

void AddQuantize(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("quantize", "Write a model file with fewer bits for each weight");
  auto flags = std::make_shared<Flags>();
  command->add_option("IN", flags->in, "GGUF file, best in F32, F16 or BF16; of a model in parts: any of them")
      ->required();
  command->add_option("OUT", flags->out, "GGUF file to write")->required();
  command->add_option("TYPE", flags->type, "As model files are called: q4_k_m, q8_0, iq4_xs, mxfp4_moe, f16...")
      ->required();
  command->add_option("--imatrix", flags->imatrix,
                      "Importance matrix: which columns matter more (GGUF, or the older .dat)");
  command->add_option("--token-embedding-type", flags->embedding, "Format of the token embedding");
  command->add_option("--output-type", flags->head, "Format of the head");
  command->add_flag("--allow-requantize", flags->allow_requantize, "Also convert tensors that are quantised already");
  command->add_option("--threads", flags->threads, "Default: one for each core")->check(CLI::PositiveNumber);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
