// `tandem logits`: the raw logits of every position, to compare Tandem with another engine.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/local_cluster.h"
#include "cli/text_model.h"
#include "cli/token_ids.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

struct Flags {
  TextModelFlags model;
  std::string ids, out;
};

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

absl::Status Run(const Flags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseTokenIds(flags.ids));
  TANDEM_ASSIGN_OR_RETURN(const LocalClusterOptions options, LocalOptions(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<LocalCluster> cluster, LocalCluster::Create(options));
  std::vector<float> rows;
  TANDEM_RETURN_IF_ERROR(
      cluster->Logits(ids, [&rows](std::span<const float> row) { rows.insert(rows.end(), row.begin(), row.end()); }));

  std::FILE* file = std::fopen(flags.out.c_str(), "wb");
  if (file == nullptr)
    return absl::UnavailableError(absl::StrCat("cannot write ", flags.out, ": ", std::strerror(errno)));
  const bool written = std::fwrite(rows.data(), sizeof(float), rows.size(), file) == rows.size();
  if (std::fclose(file) != 0 || !written)
    return absl::UnavailableError(absl::StrCat("cannot write all of ", flags.out, ": ", std::strerror(errno)));
  std::fprintf(stderr, "%s: float32 [%zu positions, %d logits]\n", flags.out.c_str(), ids.size(),
               cluster->model().spec().vocab);
  return absl::OkStatus();
}

}  // namespace

void AddLogits(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("logits", "Write the logits of every position of a token sequence to a file");
  auto flags = std::make_shared<Flags>();
  flags->model.local = 1;
  command->add_option("--model", flags->model.model, "GGUF file")->required();
  command->add_option("--local", flags->model.local, "Workers inside this process that share the layers")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--ids", flags->ids, "Token ids, such as 1,403,407")->required();
  command->add_option("--out", flags->out, "File for the float32 values, little-endian, [positions, vocabulary]")
      ->required();
  AddLocalClusterFlags(*command, &flags->model, nullptr);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
