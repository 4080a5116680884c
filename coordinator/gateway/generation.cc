#include "coordinator/gateway/generation.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "coordinator/gateway/generation_request.h"
#include "coordinator/gateway/stop_matcher.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

v1::FinishReason ReasonToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kContext:
      return v1::FINISH_REASON_CONTEXT;
    case FinishReason::kConstraint:
      return v1::FINISH_REASON_CONSTRAINT;
    case FinishReason::kNone:
    case FinishReason::kComplete:
      break;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

// Turns drawn tokens into responses. Lives from Submit to OnFinished, which deletes it: the dispatcher borrows it for
// just that long. After Start all on the dispatch thread.
class ResponseMaker : public GenerationListener {
 public:
  ResponseMaker(const PreparedRequest& prepared, const engine::Tokenizer& tokenizer, ResponseCallback on_response)
      : decoder_(tokenizer, prepared.at_text_start),
        stops_(prepared.stop_strings),
        stop_ids_(prepared.task.stop_ids),
        wants_logprobs_(prepared.task.sampling.has_top_logprobs()),
        seed_(prepared.seed),
        on_response_(std::move(on_response)) {}

  bool OnToken(const engine::SampledToken& token) override {
    v1::GenerateResponse response;
    response.add_ids(token.token);
    if (wants_logprobs_) {
      v1::Logprobs* logprobs = response.add_logprobs();
      logprobs->set_logprob(token.logprob);
      for (const engine::TokenLogprob& top : token.top) {
        v1::TokenLogprob* entry = logprobs->add_top();
        entry->set_token(top.token);
        entry->set_logprob(top.logprob);
      }
    }
    // A token that ends the answer is no part of its text.
    if (std::find(stop_ids_.begin(), stop_ids_.end(), token.token) == stop_ids_.end()) {
      response.set_text(stops_.Push(decoder_.Push(token.token)));
    }
    held_.push_back(std::move(response));
    return !stops_.found();
  }

  void OnStepsSent() override {
    for (v1::GenerateResponse& response : held_) on_response_(std::move(response), false, absl::OkStatus());
    held_.clear();
  }

  void OnFinished(const absl::Status& status, const GenerationResult& result) override {
    OnStepsSent();
    v1::GenerateResponse response;
    std::string rest = stops_.Push(decoder_.Finish());
    rest += stops_.Flush();
    response.set_text(rest);
    response.set_finish_reason(status.ok() ? ReasonToProto(result.reason) : v1::FINISH_REASON_UNSPECIFIED);
    response.mutable_usage()->set_prompt_tokens(result.prompt_tokens);
    response.mutable_usage()->set_generated_tokens(result.generated_tokens);
    response.mutable_usage()->set_seed(seed_);
    response.mutable_usage()->set_cached_tokens(result.cached_tokens);
    response.mutable_usage()->set_guessed_tokens(result.guessed_tokens);
    response.mutable_usage()->set_right_guesses(result.right_guesses);
    response.mutable_usage()->set_context_shifts(result.shifts);
    response.mutable_timings()->set_queue_s(result.queue_s);
    response.mutable_timings()->set_prefill_s(result.prefill_s);
    response.mutable_timings()->set_decode_s(result.decode_s);
    on_response_(std::move(response), true, status);
    delete this;
  }

 private:
  engine::StreamDecoder decoder_;
  StopMatcher stops_;
  const std::vector<int32_t> stop_ids_;
  const bool wants_logprobs_;
  const uint64_t seed_;
  const ResponseCallback on_response_;
  std::vector<v1::GenerateResponse> held_;  // until OnStepsSent
};

}  // namespace

absl::StatusOr<std::unique_ptr<Generation>> Generator::Start(const v1::GenerateRequest& request,
                                                             ResponseCallback on_response) {
  TANDEM_ASSIGN_OR_RETURN(PreparedRequest prepared, PrepareRequest(request, model_));
  auto maker = std::make_unique<ResponseMaker>(prepared, model_.tokenizer(), std::move(on_response));
  TANDEM_ASSIGN_OR_RETURN(const uint64_t id, dispatcher_.Submit(std::move(prepared.task), maker.get()));
  maker.release();  // OnFinished will delete it
  return std::make_unique<Generation>(dispatcher_, id);
}

}  // namespace tandem::coordinator
