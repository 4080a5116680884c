// `tandem template`: a chat template, of a model or by itself, rendered for an input.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/command.h"
#include "engine/base/status_macros.h"
#include "engine/chat/chat_template.h"
#include "engine/chat/json_value.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::cli {
namespace {

using engine::jinja::Value;
using Variables = std::vector<std::pair<std::string, Value>>;

struct Flags {
  std::string source, input;
};

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream stream(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(stream), {});
  if (!stream) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return text;
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", std::string(status.message())));
}

// The template's text. Of a model file, also the spellings of its BOS and EOS, in front of `variables`.
absl::StatusOr<std::string> ReadTemplate(const std::string& path, Variables* variables) {
  std::string magic(4, '\0');
  std::ifstream(path, std::ios::binary).read(magic.data(), 4);
  if (magic != "GGUF") return ReadAll(path);
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(path));
  const auto source = file->GetString("tokenizer.chat_template");
  if (!source.ok()) return InFile(path, source.status());
  const auto tokenizer = engine::Tokenizer::Create(*file);
  if (!tokenizer.ok()) return InFile(path, tokenizer.status());
  const auto spelling = [&](engine::TokenId id) { return Value::String(std::string((*tokenizer)->Spelling(id))); };
  variables->emplace_back("bos_token", spelling((*tokenizer)->bos()));
  variables->emplace_back("eos_token", spelling((*tokenizer)->eos()));
  return std::string(*source);
}

// What the file says wins over what the model says. Takes "now" out.
absl::StatusOr<absl::CivilSecond> AddInput(const Value& input, Variables* variables) {
  absl::CivilSecond now = absl::ToCivilSecond(absl::Now(), absl::LocalTimeZone());
  if (input.if_dict() == nullptr) {
    return absl::InvalidArgumentError(
        "the input is no JSON object; it needs \"messages\" and may hold other variables");
  }
  for (const auto& [name, value] : input.if_dict()->entries) {
    if (name != "now") {
      variables->emplace_back(name, value);
    } else if (value.if_string() == nullptr || !absl::ParseLenientCivilTime(*value.if_string(), &now)) {
      return absl::InvalidArgumentError("\"now\" must be a time such as \"2024-07-26T12:00:00\"");
    }
  }
  return now;
}

absl::Status Run(const Flags& flags) {
  Variables variables;
  TANDEM_ASSIGN_OR_RETURN(const std::string source, ReadTemplate(flags.source, &variables));
  const auto chat = engine::ChatTemplate::Parse(source);
  if (!chat.ok()) return InFile(flags.source, chat.status());
  TANDEM_ASSIGN_OR_RETURN(const std::string json, ReadAll(flags.input));
  const auto input = engine::jinja::ValueFromJson(json);
  if (!input.ok()) return InFile(flags.input, input.status());
  const auto now = AddInput(*input, &variables);
  if (!now.ok()) return InFile(flags.input, now.status());
  TANDEM_ASSIGN_OR_RETURN(const Value names, Value::MakeDict(std::move(variables)));
  const auto text = (*chat)->Render(names, *now);
  if (!text.ok()) return InFile(flags.source, text.status());
  std::fwrite(text->data(), 1, text->size(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddTemplate(CLI::App& app, Action* action) {
  CLI::App* command =
      app.add_subcommand("template", "Print what a chat template makes of a conversation, nothing added");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL_OR_JINJA", flags->source, "GGUF file with a chat template, or the template itself")
      ->required();
  command
      ->add_option("INPUT", flags->input,
                   "JSON file, - for standard input: an object whose entries are the template's variables")
      ->required();
  command->footer(
      "INPUT, for example:\n"
      "  {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"add_generation_prompt\": true,\n"
      "   \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"now\": \"2024-07-26T12:00:00\"}\n"
      "Of a model, bos_token and eos_token default to its own. \"now\" is what strftime_now prints; default: the "
      "clock.");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
