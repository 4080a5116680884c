#include "cli/bench/workload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::cli {

absl::Status Workload::CheckFits(const WorkloadOptions& options, uint32_t context) {
  uint64_t prompt = options.prompt_tokens.largest(), answer = options.answer_tokens.largest();
  if (!options.trace.empty()) {
    prompt = answer = 0;
    for (const TraceEntry& entry : options.trace) {
      if (entry.prompt_tokens + uint64_t{entry.max_tokens} <= prompt + answer) continue;
      prompt = entry.prompt_tokens;
      answer = entry.max_tokens;
    }
  }
  prompt += options.shared_prefix;
  if (prompt + answer <= context) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("prompts of up to ", prompt, " tokens and answers of up to ", answer,
                                                 " do not fit the context of ", context,
                                                 " tokens: ask for less, or start the coordinator with --context"));
}

Workload::Workload(WorkloadOptions options)
    : options_(std::move(options)), arrivals_(options_.seed, 1), lengths_(options_.seed, 2), tokens_(options_.seed, 3) {
  AppendTokens(options_.shared_prefix, &prefix_);
}

std::optional<Arrival> Workload::Next() {
  Arrival arrival;
  v1::GenerateRequest& request = arrival.request;
  uint32_t prompt_tokens = 0;
  if (options_.trace.empty()) {
    if (options_.rate > 0) at_s_ += arrivals_.Exponential(options_.rate);
    arrival.at_s = at_s_;
    prompt_tokens = options_.prompt_tokens.Draw(lengths_);
    request.set_max_tokens(options_.answer_tokens.Draw(lengths_));
  } else {
    if (next_ == options_.trace.size()) return std::nullopt;
    const TraceEntry& entry = options_.trace[next_];
    arrival.at_s = entry.at_s;
    prompt_tokens = entry.prompt_tokens;
    request.set_max_tokens(entry.max_tokens);
    if (!entry.prompt.empty()) request.set_prompt(entry.prompt);
  }
  if (!request.has_prompt()) {
    *request.mutable_ids() = prefix_;
    AppendTokens(prompt_tokens, request.mutable_ids());
  }
  request.set_model(options_.model);
  request.set_ignore_end_of_turn(true);  // the length is the load's, not the model's
  request.mutable_sampling()->set_temperature(options_.temperature);
  request.mutable_sampling()->set_seed(options_.seed + next_++);
  return arrival;
}

void Workload::AppendTokens(uint32_t count, v1::TokenIds* ids) {
  const std::vector<uint32_t>& source = options_.source.ids;
  ids->mutable_ids()->Reserve(ids->ids_size() + static_cast<int>(count));
  size_t place = options_.source.in_order ? tokens_.Below(source.size()) : 0;
  for (uint32_t i = 0; i < count; ++i) {
    ids->add_ids(options_.source.in_order ? source[place++ % source.size()] : source[tokens_.Below(source.size())]);
  }
}

}  // namespace tandem::cli
