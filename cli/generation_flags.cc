#include "cli/generation_flags.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::cli {
namespace {

// The parser of flags would take -1 and 2^64 for the largest number.
std::string IsSeed(const std::string& text) {
  uint64_t seed = 0;
  return absl::SimpleAtoi(text, &seed) ? "" : absl::StrCat("a seed is a whole number from 0 to 2^64 - 1, not ", text);
}

}  // namespace

void AddGenerationFlags(CLI::App& command, GenerationFlags* flags) {
  const std::string sampling = "Sampling";
  command
      .add_option("--temperature", flags->temperature,
                  "0 takes the most probable token; 1 draws from the model's distribution")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--top-k", flags->top_k, "Draw among the K most probable tokens; 0: all")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--top-p", flags->top_p, "Draw among the most probable tokens that together reach probability P")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--min-p", flags->min_p, "Leave out tokens less probable than P times the most probable one")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--repetition-penalty", flags->repetition_penalty, "Above 1: recent tokens become less probable")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--presence-penalty", flags->presence_penalty, "Subtracted from the logit of each recent token")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--frequency-penalty", flags->frequency_penalty, "Subtracted for each time a recent token occurs")
      ->capture_default_str()
      ->group(sampling);
  command.add_option("--penalty-window", flags->penalty_window, "How many recent tokens the penalties see")
      ->capture_default_str()
      ->group(sampling);
  command
      .add_option("--seed", flags->seed,
                  "The same seed draws the same tokens; default: a random one, printed at the end")
      ->check(IsSeed)
      ->group(sampling);
  command
      .add_option("--logit-bias", flags->logit_bias, "ID=BIAS added to a token's logit, -inf bans it; may be repeated")
      ->group(sampling);
  command.add_option("--max-tokens", flags->max_tokens,
                     "Generate at most this many tokens; default: until the context is full");
  command.add_option("--stop", flags->stop, "End before this text; may be repeated")->allow_extra_args(false);
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
  if (flags.seed) sampling.set_seed(*flags.seed);
  for (const std::string& entry : flags.logit_bias) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    v1::LogitBias& bias = *sampling.add_logit_bias();
    uint32_t token = 0;
    float value = 0;
    if (!absl::SimpleAtoi(parts.first, &token) || !absl::SimpleAtof(parts.second, &value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit-bias '", entry, "' is not ID=BIAS, such as 15=-1.5 or 15=-inf"));
    }
    bias.set_token(token);
    bias.set_bias(value);
  }
  if (flags.max_tokens) request->set_max_tokens(*flags.max_tokens);
  for (const std::string& stop : flags.stop) request->add_stop(stop);
  request->set_ignore_end_of_turn(flags.ignore_end_of_turn);
  return absl::OkStatus();
}

}  // namespace tandem::cli
