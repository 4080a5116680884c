// One request on a pipeline of its own.
#pragma once

#include <cstdint>
#include <latch>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/status_macros.h"
#include "tests/bench/pipeline/loopback_pipeline.h"

namespace tandem::bench {

struct Answer {
  std::vector<int32_t> tokens;
  coordinator::GenerationResult result;
};

class AnswerListener : public coordinator::GenerationListener {
 public:
  bool OnToken(const engine::SampledToken& token) override {
    answer_.tokens.push_back(token.token);
    return true;
  }
  void OnFinished(const absl::Status& status, const coordinator::GenerationResult& result) override {
    status_ = status;
    answer_.result = result;
    done_.count_down();
  }
  absl::StatusOr<Answer> Wait() {
    done_.wait();
    if (!status_.ok()) return status_;
    return std::move(answer_);
  }

 private:
  Answer answer_;
  absl::Status status_;
  std::latch done_{1};
};

// `max_tokens` behind `prompt`, drawn greedily by `stages`, which are the whole model and end with this call. Each
// stage has pages for `context` tokens by then.
inline absl::StatusOr<Answer> RunRequest(std::vector<std::unique_ptr<engine::Stage>> stages,
                                         const engine::ModelSpec& spec, const coordinator::PipelineSpec& pipeline,
                                         coordinator::Dispatcher::Options options, std::vector<int32_t> prompt,
                                         int32_t max_tokens) {
  options.vocab = spec.vocab;
  options.hidden = spec.hidden;
  coordinator::Dispatcher dispatcher(std::move(options));
  TANDEM_ASSIGN_OR_RETURN(const auto loopback, LoopbackPipeline::Start(std::move(stages), spec, pipeline, dispatcher));
  coordinator::GenerationTask task;
  task.prompt = std::move(prompt);
  task.max_tokens = max_tokens;
  AnswerListener listener;
  const absl::Status submitted = dispatcher.Submit(std::move(task), &listener).status();
  absl::StatusOr<Answer> answer = submitted.ok() ? listener.Wait() : submitted;
  dispatcher.Stop();
  return answer;
}

// A pipeline with pages for one sequence of `context` tokens.
inline coordinator::PipelineSpec PipelineFor(int32_t context) {
  coordinator::PipelineSpec pipeline{.epoch = 1, .context = context};
  pipeline.num_pages = context / pipeline.page_tokens + 2;
  return pipeline;
}

}  // namespace tandem::bench
