#include "coordinator/gateway/generation_request.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "proto/support/engine_convert.h"

namespace tandem::coordinator {
namespace {

constexpr int kMaxStopStrings = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxBannedTexts = 256;

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

absl::StatusOr<std::vector<int32_t>> TokensOfChat(const v1::ChatMessages& chat, const ServedModel& model) {
  if (model.chat_template() == nullptr) return model.chat_status();
  if (chat.messages().empty()) return absl::InvalidArgumentError("chat has no messages");
  engine::ChatInput input;
  for (const v1::ChatMessage& message : chat.messages()) {
    if (message.role() != "system" && message.role() != "user" && message.role() != "assistant") {
      return absl::InvalidArgumentError(
          absl::StrCat("chat: role \"", message.role(), "\" must be \"system\", \"user\" or \"assistant\""));
    }
    input.messages.push_back({message.role(), message.content()});
  }
  const engine::Tokenizer& tokenizer = model.tokenizer();
  input.bos_token = std::string(tokenizer.Spelling(tokenizer.bos()));
  input.eos_token = std::string(tokenizer.Spelling(tokenizer.eos()));
  input.now = absl::ToCivilSecond(absl::Now(), absl::LocalTimeZone());
  TANDEM_ASSIGN_OR_RETURN(const std::string text, model.chat_template()->Render(input));
  TANDEM_RETURN_IF_ERROR(CheckTextSize("chat", text));
  // The template prints every special token itself, BOS included.
  engine::EncodeOptions options;
  options.parse_special = true;
  return tokenizer.Encode(text, options);
}

absl::StatusOr<std::vector<int32_t>> PromptTokens(const v1::GenerateRequest& request, const ServedModel& model) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kPrompt:
      return TokensOfText("prompt", request.prompt(), request.parse_special(), model);
    case v1::GenerateRequest::kChat:
      return TokensOfChat(request.chat(), model);
    case v1::GenerateRequest::kIds:
      return TokensOfIds(request.ids(), model);
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the request has no input: set one of prompt, chat and ids");
}

// Adds a ban of every token whose text is one of `texts`.
absl::Status BanTexts(const google::protobuf::RepeatedPtrField<std::string>& texts, const engine::Tokenizer& tokenizer,
                      v1::Sampling* sampling) {
  if (texts.empty()) return absl::OkStatus();
  if (texts.size() > kMaxBannedTexts) {
    return absl::InvalidArgumentError(
        absl::StrCat("banned_text has ", texts.size(), " entries, at most ", kMaxBannedTexts, " are allowed"));
  }
  absl::flat_hash_map<absl::string_view, bool> found;
  for (const std::string& text : texts) found.emplace(text, false);
  for (engine::TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto it = found.find(tokenizer.Piece(id));
    if (it == found.end() || it->first.empty()) continue;
    it->second = true;
    v1::LogitBias* ban = sampling->add_logit_bias();
    ban->set_token(static_cast<uint32_t>(id));
    ban->set_bias(-std::numeric_limits<float>::infinity());
  }
  for (const std::string& text : texts) {
    if (found[text]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("banned_text \"", absl::CHexEscape(text),
                     "\" is not the whole text of any token; ask Tokenize what it consists of"));
  }
  return absl::OkStatus();
}

// Where the answer begins in the grammar or schema of the request; nullopt if it has none.
absl::StatusOr<std::optional<engine::grammar::Matcher>> MakeMatcher(const v1::GenerateRequest& request,
                                                                    const ServedModel& model) {
  if (request.constraint_case() == v1::GenerateRequest::CONSTRAINT_NOT_SET) return std::nullopt;
  const bool gbnf = request.has_grammar();
  TANDEM_ASSIGN_OR_RETURN(auto grammar,
                          model.grammars().Get(gbnf ? GrammarNotation::kGbnf : GrammarNotation::kJsonSchema,
                                               gbnf ? request.grammar() : request.json_schema()));
  const bool strips_space = request.has_chat() && model.tokenizer().strips_leading_space();
  TANDEM_ASSIGN_OR_RETURN(engine::grammar::Matcher matcher,
                          engine::grammar::Matcher::Create(std::move(grammar), strips_space));
  return std::make_optional(std::move(matcher));
}

// Null where the draws depend on nothing but `recent`.
absl::StatusOr<std::shared_ptr<DrawGuide>> MakeGuide(const v1::GenerateRequest& request,
                                                     const engine::SamplingParams& params,
                                                     const std::vector<int32_t>& prompt, const ServedModel& model) {
  TANDEM_ASSIGN_OR_RETURN(engine::DryParams dry, proto_support::DryFromProto(request.dry()));
  const bool with_dry = dry.multiplier > 0.0f;
  if (with_dry && !params.filters.empty() &&
      std::find(params.filters.begin(), params.filters.end(), engine::Filter::kDry) == params.filters.end()) {
    return absl::InvalidArgumentError("dry is set, but filters does not name it: add it, or leave the field unset");
  }
  DrawGuide::Options options;
  if (with_dry) options.dry = std::move(dry);
  if (params.mirostat != 0) options.mirostat_tau = params.mirostat_tau;
  TANDEM_ASSIGN_OR_RETURN(options.matcher, MakeMatcher(request, model));
  if (!options.dry && !options.mirostat_tau && !options.matcher) return nullptr;
  if (!request.ignore_end_of_turn()) options.end_tokens = model.tokenizer().end_of_generation();
  for (const auto& [token, bias] : params.logit_bias) {
    if (std::isinf(bias)) options.banned.push_back(token);
  }
  auto guide = std::make_shared<DrawGuide>(model.tokenizer(), std::move(options), prompt);
  if (guide->outlook() == DrawGuide::Outlook::kOpen) return guide;
  return absl::InvalidArgumentError("logit_bias and banned_text ban every token that the answer could begin with");
}

absl::Status CheckStopStrings(const v1::GenerateRequest& request) {
  if (request.stop_size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop: ", request.stop_size(), " strings, at most ", kMaxStopStrings, " are allowed"));
  }
  for (const std::string& stop : request.stop()) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop: a string of ", stop.size(), " bytes; 1 to ", kMaxStopBytes, " are allowed"));
    }
  }
  return absl::OkStatus();
}

// Whether the answer goes on at the end of the context, and what it keeps. `task` has the prompt.
absl::Status SetContextEnd(const v1::GenerateRequest& request, const engine::Tokenizer& tokenizer,
                           GenerationTask* task) {
  if (!v1::AtContextEnd_IsValid(request.at_context_end())) {
    return absl::InvalidArgumentError(absl::StrCat("at_context_end is ", static_cast<int>(request.at_context_end()),
                                                   ", expected 0 to ", v1::AtContextEnd_MAX));
  }
  task->shift = request.at_context_end() == v1::AT_CONTEXT_END_SHIFT;
  if (!task->shift) {
    if (request.keep() == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("keep is ", request.keep(), ", which says nothing without at_context_end: SHIFT"));
  }
  if (!request.has_max_tokens()) {
    return absl::InvalidArgumentError("at_context_end is SHIFT, so max_tokens must be set: the context ends nothing");
  }
  const uint64_t bos = task->prompt.front() == tokenizer.bos() ? 1 : 0;
  task->keep = static_cast<int32_t>(std::min<uint64_t>(request.keep() + bos, task->prompt.size()));
  return absl::OkStatus();
}

absl::Status CheckTurn(const v1::GenerateRequest& request) {
  if (request.client().size() > kMaxClientBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("client has ", request.client().size(), " bytes, at most ", kMaxClientBytes));
  }
  if (request.priority() < -kMaxPriority || request.priority() > kMaxPriority) {
    return absl::InvalidArgumentError(
        absl::StrCat("priority is ", request.priority(), ", expected ", -kMaxPriority, " to ", kMaxPriority));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTextSize(absl::string_view field, absl::string_view text) {
  if (text.size() <= kMaxTextBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", text.size(), " bytes; the limit is ", kMaxTextBytes));
}

absl::StatusOr<std::vector<int32_t>> TokensOfText(absl::string_view field, const std::string& text, bool parse_special,
                                                  const ServedModel& model) {
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(field, " is empty: give at least one character"));
  TANDEM_RETURN_IF_ERROR(CheckTextSize(field, text));
  engine::EncodeOptions options;
  options.add_special = true;
  options.parse_special = parse_special;
  return model.tokenizer().Encode(text, options);
}

absl::StatusOr<std::vector<int32_t>> TokensOfIds(const v1::TokenIds& ids, const ServedModel& model) {
  std::vector<int32_t> tokens;
  tokens.reserve(ids.ids_size());
  for (uint32_t id : ids.ids()) {
    if (id >= static_cast<uint32_t>(model.spec().vocab)) {
      return absl::InvalidArgumentError(
          absl::StrCat("ids: ", id, " is outside the vocabulary of ", model.spec().vocab, " tokens"));
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  if (tokens.empty()) return absl::InvalidArgumentError("ids is empty: give at least one token");
  return tokens;
}

absl::StatusOr<std::vector<engine::AdapterUse>> AdaptersOf(const google::protobuf::RepeatedPtrField<v1::Lora>& lora,
                                                           const ServedModel& model) {
  if (lora.size() > engine::kMaxSliceAdapters) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora has ", lora.size(), " entries, at most ", engine::kMaxSliceAdapters, " are allowed"));
  }
  const std::span<const ServedAdapter> loaded = model.adapters();
  std::vector<engine::AdapterUse> uses;
  for (const v1::Lora& wanted : lora) {
    const auto it = std::find_if(loaded.begin(), loaded.end(),
                                 [&](const ServedAdapter& adapter) { return adapter.name == wanted.name(); });
    if (it == loaded.end()) {
      const auto name = [](std::string* out, const ServedAdapter& adapter) { absl::StrAppend(out, adapter.name); };
      return absl::NotFoundError(absl::StrCat("no adapter \"", wanted.name().substr(0, 64), "\" here; loaded: ",
                                              loaded.empty() ? "none" : absl::StrJoin(loaded, ", ", name)));
    }
    const engine::AdapterUse use{.adapter = static_cast<int32_t>(it - loaded.begin()),
                                 .scale = wanted.has_scale() ? wanted.scale() : 1.0f};
    if (!(std::fabs(use.scale) <= engine::kMaxAdapterScale)) {
      return absl::InvalidArgumentError(absl::StrCat("lora: the scale of \"", wanted.name(), "\" is ", use.scale,
                                                     ", expected within +-", engine::kMaxAdapterScale));
    }
    for (const engine::AdapterUse& before : uses) {
      if (before.adapter != use.adapter) continue;
      return absl::InvalidArgumentError(absl::StrCat("lora names \"", wanted.name(), "\" twice"));
    }
    uses.push_back(use);
  }
  return uses;
}

absl::Status CheckModelName(const std::string& name, const ServedModel& model) {
  if (name.empty() || name == model.name()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("no model \"", name, "\" here; served is \"", model.name(), "\""));
}

absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& request, const ServedModel& model) {
  TANDEM_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  TANDEM_RETURN_IF_ERROR(CheckStopStrings(request));
  if (request.has_max_tokens() && request.max_tokens() == 0) {
    return absl::InvalidArgumentError("max_tokens is 0, must be at least 1");
  }
  TANDEM_RETURN_IF_ERROR(CheckTurn(request));
  v1::Sampling sampling = request.sampling();
  TANDEM_RETURN_IF_ERROR(BanTexts(request.banned_text(), model.tokenizer(), &sampling));
  TANDEM_ASSIGN_OR_RETURN(const engine::SamplingParams params,
                          proto_support::SamplingFromProto(sampling, model.spec().vocab));

  PreparedRequest prepared;
  TANDEM_ASSIGN_OR_RETURN(prepared.task.adapters, AdaptersOf(request.lora(), model));
  TANDEM_ASSIGN_OR_RETURN(prepared.task.prompt, PromptTokens(request, model));
  if (prepared.task.prompt.empty()) return absl::InvalidArgumentError("the prompt gives no tokens");
  prepared.stop_strings.assign(request.stop().begin(), request.stop().end());
  prepared.seed = request.sampling().has_seed() ? request.sampling().seed() : RandomSeed();
  prepared.at_text_start = request.has_chat();
  TANDEM_ASSIGN_OR_RETURN(prepared.task.guide, MakeGuide(request, params, prepared.task.prompt, model));
  prepared.task.sampling = std::move(sampling);
  prepared.task.sampling.set_seed(prepared.seed);
  prepared.task.penalty_window = params.needs_history() ? params.penalty_window : 0;
  // Unset: the context ends the answer.
  constexpr uint32_t kMost = std::numeric_limits<int32_t>::max();
  prepared.task.max_tokens =
      static_cast<int32_t>(request.has_max_tokens() ? std::min(request.max_tokens(), kMost) : kMost);
  prepared.task.client = request.client();
  prepared.task.priority = request.priority();
  if (!request.ignore_end_of_turn()) prepared.task.stop_ids = model.tokenizer().end_of_generation();
  TANDEM_RETURN_IF_ERROR(SetContextEnd(request, model.tokenizer(), &prepared.task));
  return prepared;
}

}  // namespace tandem::coordinator
