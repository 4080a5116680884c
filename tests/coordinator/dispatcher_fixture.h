// A dispatcher with fake pipelines, and what its tests share.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/dispatcher.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/fake_pipeline.h"

namespace tandem::coordinator {

using testing::Continue;
using testing::FakePipeline;
using ::testing::HasSubstr;
using testing::kFakeHidden;
using testing::kFakeVocab;
using testing::ManualClock;
using testing::Prompt;

// Copies of a status share a count of references in Abseil, which is not instrumented: a sanitizer takes it for a race
// when the dispatch thread lets go of the last one. This one shares nothing.
inline absl::Status OwnCopy(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

// Collects what it is told; Wait returns when the generation has ended. Read the rest after that.
class Collector : public GenerationListener {
 public:
  explicit Collector(int stop_after = std::numeric_limits<int>::max()) : stop_after_(stop_after) {}
  bool OnToken(const engine::SampledToken& token) override {
    tokens.push_back(token.token);
    last = token;
    return static_cast<int>(tokens.size()) < stop_after_;
  }
  void OnLogits(int32_t position, std::span<const float> logits) override {
    positions.push_back(position);
    rows.push_back(logits[kFakeVocab - 1]);
  }
  void OnState(std::span<const float> state) override { rows.insert(rows.end(), state.begin(), state.end()); }
  void OnStateSum(int32_t position, std::span<const int64_t> sum) override {
    if (position == 0) state_sum = 0;
    positions.push_back(position);
    state_sum += sum[kFakeHidden - 1];
  }
  void OnFinished(const absl::Status& status, const GenerationResult& result) override {
    this->result = result;
    done_.set_value(OwnCopy(status));
  }
  absl::Status Wait() { return done_.get_future().get(); }

  std::vector<int32_t> tokens, positions;
  std::vector<float> rows;
  int64_t state_sum = 0;
  engine::SampledToken last;
  GenerationResult result;

 private:
  const int stop_after_;
  std::promise<absl::Status> done_;
};

inline GenerationTask Task(std::vector<int32_t> prompt, int32_t max_tokens) {
  GenerationTask task;
  task.prompt = std::move(prompt);
  task.max_tokens = max_tokens;
  return task;
}

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() { Create(Dispatcher::Options()); }
  // A dispatcher with these options and what all tests have in common; ends the one before.
  void Create(Dispatcher::Options options) {
    if (dispatcher_ != nullptr) dispatcher_->Stop();
    pipelines_.clear();  // their threads answer to it
    options.vocab = kFakeVocab;
    options.hidden = kFakeHidden;
    options.max_waiting = 8;
    options.clock = &clock_;
    options.on_pipeline_broken = [this](uint64_t epoch, absl::Status why) {
      std::lock_guard<std::mutex> lock(broken_mutex_);
      broken_.emplace_back(epoch, OwnCopy(why));
      broken_wake_.notify_all();
    };
    dispatcher_ = std::make_unique<Dispatcher>(std::move(options));
  }
  ~DispatcherTest() override {
    dispatcher_->Stop();
    pipelines_.clear();  // their threads answer to the dispatcher
  }

  // `held`: from its first frame on; to hold it after the return is too late if a request waits for it already.
  FakePipeline& Attach(uint64_t epoch = 1, FakePipeline::Spoil spoil = nullptr, int32_t stages = 1, bool held = false) {
    PipelineSpec spec;
    spec.epoch = epoch;
    spec.num_stages = stages;
    spec.num_pages = 64;
    spec.page_tokens = 16;
    spec.max_step_tokens = 64;
    spec.context = 512;
    pipelines_.push_back(std::make_unique<FakePipeline>(
        16, [this](std::unique_ptr<v1::StepFrame> frame) { dispatcher_->OnFrame(std::move(frame)); },
        std::move(spoil)));
    if (held) pipelines_.back()->Hold();
    dispatcher_->AttachPipeline(spec, pipelines_.back()->Link());
    return *pipelines_.back();
  }

  // Waits for the next pipeline that breaks: its epoch, and why.
  std::pair<uint64_t, absl::Status> NextBroken() {
    std::unique_lock<std::mutex> lock(broken_mutex_);
    broken_wake_.wait(lock, [this] { return !broken_.empty(); });
    auto next = broken_.front();
    broken_.pop_front();
    return next;
  }

  // Spoils the first answer and expects that the pipeline breaks with a message that has `expected` in it; the request
  // goes on, unharmed, on the next pipeline.
  void ExpectLieDetected(FakePipeline::Spoil spoil, const std::string& expected, GenerationTask task) {
    Collector collector;
    Attach(1, std::move(spoil));
    ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
    const auto [epoch, why] = NextBroken();
    EXPECT_EQ(epoch, 1u);
    EXPECT_THAT(std::string(why.message()), HasSubstr(expected));
    Attach(2);
    EXPECT_TRUE(collector.Wait().ok());
    EXPECT_EQ(collector.tokens, Continue(task.prompt, task.max_tokens));
  }

  // The 150-token prompt of `output`, whose second answer is spoilt, so that a second pipeline computes it anew.
  void AskOverTwoPipelines(engine::SliceOutput output, Collector* collector) {
    auto answers = std::make_shared<int>(0);
    FakePipeline& first = Attach(1, [answers](const v1::StepFrame&, v1::StepFrame* result) {
      if (++*answers == 2) result->set_step(99);
    });
    first.Hold();
    GenerationTask task;
    task.output = output;
    for (int i = 0; i < 150; ++i) task.prompt.push_back(i);
    ASSERT_TRUE(dispatcher_->Submit(task, collector).ok());
    first.Go();
    NextBroken();
    Attach(2);
    EXPECT_TRUE(collector->Wait().ok());
    EXPECT_EQ(collector->result.reason, FinishReason::kComplete);
  }

  ManualClock clock_;
  std::mutex broken_mutex_;
  std::condition_variable broken_wake_;
  std::deque<std::pair<uint64_t, absl::Status>> broken_;
  std::vector<std::unique_ptr<FakePipeline>> pipelines_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

}  // namespace tandem::coordinator
