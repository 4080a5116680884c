// `tandem detokenize`: token ids to text, by a model file.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/token_ids.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::vector<std::string> ids;
  std::string model;
  bool special = false;
};

absl::Status Run(const Flags& flags) {
  const std::string list =
      flags.ids.empty() ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : absl::StrJoin(flags.ids, " ");
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Tokenizer> tokenizer, engine::Tokenizer::Create(*file));
  // What `tokenize` prints for an empty text.
  if (absl::StripAsciiWhitespace(list).empty()) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseTokenIds(list));
  for (const int32_t id : ids) {
    if (id >= tokenizer->vocab_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, " is outside the vocabulary of ", tokenizer->vocab_size(), " tokens"));
    }
  }
  const std::string text = tokenizer->Decode(ids, flags.special);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddDetokenize(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("detokenize", "Print the text of token ids, nothing added");
  auto flags = std::make_shared<Flags>();
  command->add_option("IDS", flags->ids, "Such as 1 403 407 or 1,403,407; default: standard input");
  command->add_option("--model", flags->model, "GGUF file; a vocabulary is enough")->required();
  command->add_flag("--special", flags->special, "Print control tokens too, such as <|im_end|>");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
