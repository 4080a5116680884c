// `tandem embed`: texts to vectors.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/lora_flag.h"
#include "cli/text_model.h"
#include "cli/token_ids.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

struct Flags {
  TextModelFlags model;
  std::vector<std::string> texts, lora;
  std::string ids, pooling, print = "numbers";
  bool raw = false, parse_special = false;
};

const char* PoolingName(v1::Pooling pooling) {
  switch (pooling) {
    case v1::POOLING_MEAN:
      return "mean";
    case v1::POOLING_LAST:
      return "last";
    case v1::POOLING_CLS:
      return "cls";
    default:
      return "";
  }
}

v1::Pooling PoolingOf(const std::string& name) {
  for (v1::Pooling pooling : {v1::POOLING_MEAN, v1::POOLING_LAST, v1::POOLING_CLS}) {
    if (name == PoolingName(pooling)) return pooling;
  }
  return v1::POOLING_UNSPECIFIED;
}

absl::StatusOr<v1::EmbedRequest> BuildRequest(const Flags& flags) {
  v1::EmbedRequest request;
  request.set_pooling(PoolingOf(flags.pooling));
  request.set_normalize(!flags.raw);
  request.set_parse_special(flags.parse_special);
  TANDEM_RETURN_IF_ERROR(ApplyLoraFlag(flags.lora, request.mutable_lora()));
  for (const std::string& text : flags.texts) request.add_inputs()->set_text(text);
  if (!flags.ids.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseTokenIds(flags.ids));
    v1::TokenIds* to = request.add_inputs()->mutable_ids();
    for (int32_t id : ids) to->add_ids(id);
  }
  if (request.inputs().empty()) {
    if (isatty(STDIN_FILENO)) {
      return absl::OutOfRangeError("nothing to embed: give TEXT, --ids LIST or text on standard input");
    }
    request.add_inputs()->set_text(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  }
  for (const v1::EmbedInput& input : request.inputs()) TANDEM_RETURN_IF_ERROR(CheckUtf8("text", input.text()));
  return request;
}

// Nine digits give the same float back.
void PrintValues(const v1::Embedding& embedding, const char* separator) {
  const char* before = "";
  for (float value : embedding.values()) {
    std::printf("%s%.9g", before, static_cast<double>(value));
    before = separator;
  }
}

void PrintJson(const v1::EmbedResponse& response) {
  std::printf("{\"pooling\":\"%s\",\"embeddings\":[", PoolingName(response.pooling()));
  const char* before = "";
  for (const v1::Embedding& embedding : response.embeddings()) {
    std::printf("%s{\"tokens\":%u,\"values\":[", before, embedding.tokens());
    PrintValues(embedding, ",");
    std::printf("]}");
    before = ",";
  }
  std::printf("]}\n");
}

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  TANDEM_ASSIGN_OR_RETURN(const v1::EmbedRequest request, BuildRequest(flags));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<TextModel> model, OpenTextModel(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const v1::EmbedResponse response, model->Embed(request, interrupt));
  if (flags.print == "json") {
    PrintJson(response);
    return absl::OkStatus();
  }
  for (const v1::Embedding& embedding : response.embeddings()) {
    PrintValues(embedding, " ");
    std::printf("\n");
  }
  return absl::OkStatus();
}

}  // namespace

void AddEmbed(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("embed", "Turn texts into vectors, one a line");
  auto flags = std::make_shared<Flags>();
  command->add_option("TEXT", flags->texts, "Texts; default: one, standard input");
  command->add_option("--ids", flags->ids, "One more input, as token ids such as 1,403,407");
  command->add_option("--pooling", flags->pooling, "mean, last or cls; default: what the model's file says, else mean")
      ->check(CLI::IsMember({"mean", "last", "cls"}));
  command->add_flag("--no-normalize", flags->raw, "Leave the vectors as they are instead of scaling them to length 1");
  command->add_option("--print", flags->print, "numbers, or json: with the pooling and the count of tokens")
      ->check(CLI::IsMember({"numbers", "json"}))
      ->capture_default_str();
  command->add_flag("--parse-special", flags->parse_special, "Text in TEXT that spells a control token is that token");
  AddLoraFlag(*command, &flags->lora);
  AddTextModelFlags(*command, &flags->model);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
