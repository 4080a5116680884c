#include "cli/generation_flags.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "cli/lora_flag.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

// The parser of flags would take -1 and 2^64 for the largest number.
std::string IsSeed(const std::string& text) {
  uint64_t seed = 0;
  return absl::SimpleAtoi(text, &seed) ? "" : absl::StrCat("a seed is a whole number from 0 to 2^64 - 1, not ", text);
}

void AddFilterFlags(CLI::App& command, GenerationFlags* flags) {
  const auto add = [&](const char* name, auto* value, const char* help) {
    return command.add_option(name, *value, help)->capture_default_str()->group("Sampling");
  };
  add("--temperature", &flags->temperature, "0 takes the most probable token; 1 draws from the model's distribution");
  add("--top-k", &flags->top_k, "Draw among the K most probable tokens; 0: all");
  add("--top-p", &flags->top_p, "Draw among the most probable tokens that together reach probability P");
  add("--min-p", &flags->min_p, "Leave out tokens less probable than P times the most probable one");
  add("--typical-p", &flags->typical_p,
      "Draw among the tokens of most typical surprise that together reach probability P");
  add("--top-n-sigma", &flags->top_n_sigma, "Keep logits within N standard deviations of the largest; 0: all");
  add("--xtc-probability", &flags->xtc_probability,
      "How often XTC drops the top choices but the least probable of them");
  add("--xtc-threshold", &flags->xtc_threshold, "From which probability a token is a top choice for XTC");
  add("--mirostat", &flags->mirostat, "1 or 2: steer the surprise of the text with this version of mirostat; 0: off");
  add("--mirostat-tau", &flags->mirostat_tau, "Surprise that mirostat aims at, in bits");
  add("--mirostat-eta", &flags->mirostat_eta, "How fast mirostat follows");
  add("--filters", &flags->filters,
      "Order of the filters, such as top_k,top_p,temperature. One that is not named is off. Default: "
      "penalties,dry,temperature,top_n_sigma,top_k,typical_p,top_p,min_p,xtc");
  add("--seed", &flags->seed, "The same seed draws the same tokens; default: a random one, printed at the end")
      ->check(IsSeed);
  add("--logit-bias", &flags->logit_bias, "ID=BIAS added to a token's logit, -inf bans it; may be repeated");
  add("--ban", &flags->bans, "Never draw a token whose text is this; may be repeated")->allow_extra_args(false);
}

void AddPenaltyFlags(CLI::App& command, GenerationFlags* flags) {
  const auto add = [&](const char* name, auto* value, const char* help) {
    return command.add_option(name, *value, help)->capture_default_str()->group("Penalties");
  };
  add("--repetition-penalty", &flags->repetition_penalty, "Above 1: recent tokens become less probable");
  add("--presence-penalty", &flags->presence_penalty, "Subtracted from the logit of each recent token");
  add("--frequency-penalty", &flags->frequency_penalty, "Subtracted for each time a recent token occurs");
  add("--penalty-window", &flags->penalty_window, "How many recent tokens these penalties see");
  add("--dry-multiplier", &flags->dry_multiplier,
      "DRY: a token that would lengthen a repetition of n tokens loses MULTIPLIER * BASE^(n - LENGTH); 0: off");
  add("--dry-base", &flags->dry_base, "BASE of DRY");
  add("--dry-allowed-length", &flags->dry_allowed_length, "LENGTH of DRY: shorter repetitions are free");
  add("--dry-window", &flags->dry_window, "How many of the last tokens DRY searches");
  add("--dry-breaker", &flags->dry_breakers,
      "Text that no repetition reaches across, instead of newline, colon, double quote and asterisk; may be repeated")
      ->allow_extra_args(false);
}

absl::Status ApplyFilters(const std::string& names, v1::Sampling* sampling) {
  for (const absl::string_view name : absl::StrSplit(names, ',', absl::SkipWhitespace())) {
    v1::Filter filter = v1::FILTER_UNSPECIFIED;
    const std::string wanted = absl::StrCat("FILTER_", absl::AsciiStrToUpper(absl::StripAsciiWhitespace(name)));
    if (!v1::Filter_Parse(absl::StrReplaceAll(wanted, {{"-", "_"}}), &filter) || filter == v1::FILTER_UNSPECIFIED) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--filters: '", name, "' is none of penalties, dry, temperature, top_n_sigma, top_k, typical_p, ",
          "top_p, min_p and xtc"));
    }
    sampling->add_filters(filter);
  }
  return absl::OkStatus();
}

absl::Status ApplyLogitBias(const std::vector<std::string>& entries, v1::Sampling* sampling) {
  for (const std::string& entry : entries) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    v1::LogitBias& bias = *sampling->add_logit_bias();
    uint32_t token = 0;
    float value = 0;
    if (!absl::SimpleAtoi(parts.first, &token) || !absl::SimpleAtof(parts.second, &value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit-bias '", entry, "' is not ID=BIAS, such as 15=-1.5 or 15=-inf"));
    }
    bias.set_token(token);
    bias.set_bias(value);
  }
  return absl::OkStatus();
}

void ApplyDry(const GenerationFlags& flags, v1::GenerateRequest* request) {
  v1::Dry& dry = *request->mutable_dry();
  dry.set_multiplier(flags.dry_multiplier);
  dry.set_base(flags.dry_base);
  dry.set_allowed_length(flags.dry_allowed_length);
  dry.set_window(flags.dry_window);
  for (const std::string& breaker : flags.dry_breakers) dry.add_breakers(breaker);
}

// The contents of the file of that name, if there is one, else the argument itself.
absl::StatusOr<std::string> FileOrText(const char* flag, const std::string& argument) {
  std::error_code ignored;
  if (argument.find('\n') != std::string::npos || !std::filesystem::is_regular_file(argument, ignored)) return argument;
  std::ifstream file(argument, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file.good() && !file.eof()) return absl::InternalError(absl::StrCat(flag, ": cannot read ", argument));
  return text;
}

}  // namespace

void AddGenerationFlags(CLI::App& command, GenerationFlags* flags) {
  AddFilterFlags(command, flags);
  AddPenaltyFlags(command, flags);
  CLI::Option* grammar = command.add_option("--grammar", flags->grammar,
                                            "Answer with a text that this grammar (GBNF; a file or its text) matches");
  command
      .add_option("--json-schema", flags->json_schema,
                  "Answer with a JSON document that this schema (a file or its text) accepts; {} takes any")
      ->excludes(grammar);
  command.add_option("--max-tokens", flags->max_tokens,
                     "Generate at most this many tokens; default: until the context is full");
  CLI::Option* at_end =
      command
          .add_option("--at-context-end", flags->at_context_end,
                      "When the context is full: stop; or shift, drop the oldest tokens and go on, to --max-tokens")
          ->check(CLI::IsMember({"stop", "shift"}))
          ->capture_default_str();
  command.add_option("--keep", flags->keep, "Tokens at the prompt's beginning that a shift keeps, beside BOS")
      ->needs(at_end)
      ->capture_default_str();
  command.add_option("--stop", flags->stop, "End before this text; may be repeated")->allow_extra_args(false);
  AddLoraFlag(command, &flags->lora);
  command.add_flag("--ignore-end-of-turn", flags->ignore_end_of_turn, "Go on when the model ends its turn");
}

absl::Status ApplyGenerationFlags(const GenerationFlags& flags, v1::GenerateRequest* request) {
  v1::Sampling& sampling = *request->mutable_sampling();
  sampling.set_temperature(flags.temperature);
  sampling.set_top_k(flags.top_k);
  sampling.set_top_p(flags.top_p);
  sampling.set_min_p(flags.min_p);
  sampling.set_repetition_penalty(flags.repetition_penalty);
  sampling.set_presence_penalty(flags.presence_penalty);
  sampling.set_frequency_penalty(flags.frequency_penalty);
  sampling.set_penalty_window(flags.penalty_window);
  sampling.set_typical_p(flags.typical_p);
  sampling.set_top_n_sigma(flags.top_n_sigma);
  sampling.set_xtc_probability(flags.xtc_probability);
  sampling.set_xtc_threshold(flags.xtc_threshold);
  sampling.set_mirostat(flags.mirostat);
  sampling.set_mirostat_tau(flags.mirostat_tau);
  sampling.set_mirostat_eta(flags.mirostat_eta);
  if (flags.seed) sampling.set_seed(*flags.seed);
  TANDEM_RETURN_IF_ERROR(ApplyFilters(flags.filters, &sampling));
  TANDEM_RETURN_IF_ERROR(ApplyLogitBias(flags.logit_bias, &sampling));
  ApplyDry(flags, request);
  for (const std::string& text : flags.bans) request->add_banned_text(text);
  if (!flags.grammar.empty()) {
    TANDEM_ASSIGN_OR_RETURN(*request->mutable_grammar(), FileOrText("--grammar", flags.grammar));
  }
  if (!flags.json_schema.empty()) {
    TANDEM_ASSIGN_OR_RETURN(*request->mutable_json_schema(), FileOrText("--json-schema", flags.json_schema));
  }
  if (flags.max_tokens) request->set_max_tokens(*flags.max_tokens);
  if (flags.at_context_end == "shift") request->set_at_context_end(v1::AT_CONTEXT_END_SHIFT);
  request->set_keep(flags.keep);
  for (const std::string& stop : flags.stop) request->add_stop(stop);
  request->set_ignore_end_of_turn(flags.ignore_end_of_turn);
  return ApplyLoraFlag(flags.lora, request->mutable_lora());
}

}  // namespace tandem::cli
