#include "cli/answer_printer.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::cli {
namespace {

const char* ReasonText(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "end of turn or stop string";
    case v1::FINISH_REASON_LENGTH:
      return "token limit";
    case v1::FINISH_REASON_CONTEXT:
      return "context full";
    case v1::FINISH_REASON_CONSTRAINT:
      return "the grammar allows nothing more";
    default:
      return "unknown reason";
  }
}

std::string Rate(uint32_t tokens, double seconds) {
  return seconds > 0 && tokens > 0 ? absl::StrFormat("%.1f tokens/s", tokens / seconds) : std::string("- tokens/s");
}

}  // namespace

void AnswerPrinter::Print(const v1::GenerateResponse& response) {
  text_ += response.text();
  if (mode_ == PrintMode::kIds) {
    for (uint32_t id : response.ids()) {
      std::printf(any_id_ ? " %u" : "%u", id);
      any_id_ = true;
    }
  } else {
    std::fputs(response.text().c_str(), stdout);
    std::fflush(stdout);
    for (int i = 0; i < response.logprobs_size(); ++i) {
      const v1::Logprobs& logprobs = response.logprobs(i);
      std::fprintf(stderr, "  token");
      if (i < response.ids_size()) std::fprintf(stderr, " %u", response.ids(i));
      std::fprintf(stderr, ", logprob %.4f;", logprobs.logprob());
      for (const v1::TokenLogprob& top : logprobs.top()) std::fprintf(stderr, " %u:%.4f", top.token(), top.logprob());
      std::fputc('\n', stderr);
    }
  }
  std::fflush(stdout);
  if (response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    Finish();
    if (!quiet_) PrintClosingLine(response);
  }
}

void AnswerPrinter::Finish() {
  if (finished_) return;
  finished_ = true;
  if (any_id_ || !text_.empty()) std::putchar('\n');
  std::fflush(stdout);
}

void AnswerPrinter::PrintClosingLine(const v1::GenerateResponse& last) const {
  const v1::Usage& usage = last.usage();
  // The first token comes with the prefill; decoding is what follows it.
  const uint32_t decoded = usage.generated_tokens() > 0 ? usage.generated_tokens() - 1 : 0;
  const uint32_t computed = usage.prompt_tokens() - std::min(usage.prompt_tokens(), usage.cached_tokens());
  std::string cached, guesses, shifts;
  if (usage.cached_tokens() > 0) cached = absl::StrCat(" (and ", usage.cached_tokens(), " computed before)");
  if (usage.guessed_tokens() > 0) {
    guesses = absl::StrCat(" (", usage.right_guesses(), " of ", usage.guessed_tokens(), " guesses right)");
  }
  if (usage.context_shifts() > 0) shifts = absl::StrCat(", context shifted ", usage.context_shifts(), " times");
  std::fprintf(stderr, "[prefill %u tokens%s, %s | decode %u tokens%s, %s | %s%s | seed %llu]\n", computed,
               cached.c_str(), Rate(computed, last.timings().prefill_s()).c_str(), usage.generated_tokens(),
               guesses.c_str(), Rate(decoded, last.timings().decode_s()).c_str(), ReasonText(last.finish_reason()),
               shifts.c_str(), static_cast<unsigned long long>(usage.seed()));
}

}  // namespace tandem::cli
