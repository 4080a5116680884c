// The life of requests in the dispatcher, and what it does with pipelines that break or lie.
#include "coordinator/dispatcher.h"

#include <atomic>
#include <future>
#include <numeric>

#include "tests/coordinator/dispatcher_fixture.h"

namespace tandem::coordinator {
namespace {

using ::testing::ElementsAre;

TEST_F(DispatcherTest, GeneratesTheTokensOfTheModel) {
  Attach();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({5, 6, 7}, 20), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue({5, 6, 7}, 20));
  EXPECT_EQ(collector.result.reason, FinishReason::kLength);
  EXPECT_EQ(collector.result.prompt_tokens, 3);
  EXPECT_EQ(collector.result.generated_tokens, 20);
}

TEST_F(DispatcherTest, ManyClientsGetWhatEachGetsAlone) {
  Attach(1, nullptr, /*stages=*/3);
  std::vector<std::unique_ptr<Collector>> collectors;
  for (int i = 0; i < 8; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(dispatcher_->Submit(Task({i, 2 * i, 3}, 40 + i), collectors.back().get()).ok());
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(collectors[i]->Wait().ok());
    EXPECT_EQ(collectors[i]->tokens, Continue({i, 2 * i, 3}, 40 + i));
  }
}

TEST_F(DispatcherTest, ListenersHearOfTheNextStepsWhenTheseAreSent) {
  FakePipeline& pipeline = Attach();
  struct Listener : Collector {
    explicit Listener(FakePipeline& pipeline) : pipeline(pipeline) {}
    bool OnToken(const engine::SampledToken& token) override {
      at_token.push_back(pipeline.received());
      return Collector::OnToken(token);
    }
    void OnStepsSent() override { at_steps_sent.push_back(pipeline.received()); }
    FakePipeline& pipeline;
    std::vector<int> at_token, at_steps_sent;
  } listener(pipeline);
  ASSERT_TRUE(dispatcher_->Submit(Task({1, 2}, 4), &listener).ok());
  EXPECT_TRUE(listener.Wait().ok());
  EXPECT_THAT(listener.at_token, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(listener.at_steps_sent, ElementsAre(2, 3, 4));  // the last token is followed by OnFinished
}

TEST_F(DispatcherTest, ListenerEndsTheGeneration) {
  Attach();
  Collector collector(/*stop_after=*/3);
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 20), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens.size(), 3u);
  EXPECT_EQ(collector.result.reason, FinishReason::kStop);
}

TEST_F(DispatcherTest, CancelEndsWithCancelledAndFreesThePages) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector cancelled, other;
  const auto id = dispatcher_->Submit(Task({1, 2}, 100), &cancelled);
  ASSERT_TRUE(id.ok());
  pipeline.WaitForFrames(1);
  dispatcher_->Cancel(*id);
  dispatcher_->Cancel(*id);
  EXPECT_EQ(cancelled.Wait().code(), absl::StatusCode::kCancelled);
  pipeline.Go();  // the result of the cancelled step is ignored
  ASSERT_TRUE(dispatcher_->Submit(Task({3}, 4), &other).ok());
  EXPECT_TRUE(other.Wait().ok());
  EXPECT_EQ(other.tokens, Continue({3}, 4));
  dispatcher_->Stop();
  EXPECT_EQ(dispatcher_->stats().kv_pages_used, 0);
  EXPECT_TRUE(cancelled.tokens.empty());
}

TEST_F(DispatcherTest, LogitsComeOncePerPositionEvenOverTwoPipelines) {
  Collector collector;
  AskOverTwoPipelines(engine::SliceOutput::kLogits, &collector);
  std::vector<int32_t> prompt(150);
  std::iota(prompt.begin(), prompt.end(), 0);
  EXPECT_EQ(collector.positions, prompt) << "0, 1, ... each once";
  EXPECT_EQ(collector.rows, std::vector<float>(prompt.begin(), prompt.end()));
}

TEST_F(DispatcherTest, StateSumBeginsAnewOnTheNextPipeline) {
  Collector collector;
  AskOverTwoPipelines(engine::SliceOutput::kStateSum, &collector);
  EXPECT_EQ(collector.positions, (std::vector<int32_t>{0, 0, 64, 128}));
  EXPECT_EQ(collector.state_sum, int64_t{149 * 150 / 2} << engine::kStateSumBits);
}

TEST_F(DispatcherTest, FirstAndLastStateComeOnce) {
  Attach();
  GenerationTask task;
  for (int i = 0; i < 150; ++i) task.prompt.push_back(500 + i);
  for (engine::SliceOutput output : {engine::SliceOutput::kFirstState, engine::SliceOutput::kLastState}) {
    task.output = output;
    Collector collector;
    ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
    EXPECT_TRUE(collector.Wait().ok());
    EXPECT_EQ(collector.rows,
              std::vector<float>(kFakeHidden, output == engine::SliceOutput::kFirstState ? 500.0f : 649.0f));
  }
}

TEST_F(DispatcherTest, StatesThatLieBreakThePipeline) {
  const auto expect = [&](uint64_t epoch, engine::SliceOutput output, FakePipeline::Spoil spoil,
                          const std::string& message) {
    Attach(epoch, std::move(spoil));
    GenerationTask task = Task({1}, 1);
    task.output = output;
    Collector collector;
    const auto id = dispatcher_->Submit(task, &collector);
    ASSERT_TRUE(id.ok());
    EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr(message));
    dispatcher_->Cancel(*id);
    EXPECT_TRUE(absl::IsCancelled(collector.Wait()));
  };
  expect(
      1, engine::SliceOutput::kLastState, [](auto&, v1::StepFrame* r) { r->mutable_results(0)->set_state("abc"); },
      "3 bytes of state instead of 16");
  expect(
      2, engine::SliceOutput::kFirstState,
      [](auto&, v1::StepFrame* r) { r->mutable_results(0)->set_state(std::string(16, '\xff')); }, "nan");
  expect(
      3, engine::SliceOutput::kStateSum, [](auto&, v1::StepFrame* r) { r->mutable_results(0)->clear_state_sum(); },
      "0 bytes of state_sum instead of 32");
  expect(
      4, engine::SliceOutput::kStateSum,
      [](auto&, v1::StepFrame* r) { r->mutable_results(0)->set_state_sum(std::string(32, '\x7f')); },
      "a sum of 1 states is 9187201950435737471");
}

TEST_F(DispatcherTest, WrongStepBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->set_step(7); }, "step 1 was due", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, MissingResultBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->clear_results(); }, "no result for sequence",
                    Task({1, 2}, 5));
}

TEST_F(DispatcherTest, ResultThatWasNotAskedForBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->add_results()->set_sequence(1); }, "2 results",
                    Task({1, 2}, 5));
}

TEST_F(DispatcherTest, ForeignSequenceBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_sequence(77); },
                    "sequence 77 where 1 was due", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, TokenOutOfRangeBreaksThePipeline) {
  ExpectLieDetected(
      [](auto&, v1::StepFrame* result) { result->mutable_results(0)->mutable_draws(0)->set_token(kFakeVocab); },
      "token 1000 of a vocabulary of 1000", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, DrawThatWasNotDueBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->add_draws(); },
                    "2 draws where 1 were due, with 0 guesses", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, MissingDrawBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->clear_draws(); },
                    "0 draws where 1 were due", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, TimingOfAnImpossibleStageBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_timings(0)->set_stage(1); }, "stage 1 of 1",
                    Task({1, 2}, 5));
}

TEST_F(DispatcherTest, LogprobThatIsNoNumberBreaksThePipeline) {
  GenerationTask task = Task({1, 2}, 5);
  task.sampling.set_top_logprobs(0);
  ExpectLieDetected(
      [](auto&, v1::StepFrame* result) {
        result->mutable_results(0)->mutable_draws(0)->set_logprob(std::numeric_limits<float>::quiet_NaN());
      },
      "not a number", task);
}

TEST_F(DispatcherTest, MissingLogprobBreaksThePipeline) {
  GenerationTask task = Task({1, 2}, 5);
  task.sampling.set_top_logprobs(0);
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->mutable_draws(0)->clear_logprob(); },
                    "left out the log-probabilities", task);
}

TEST_F(DispatcherTest, FailedStepBreaksThePipelineWithItsMessage) {
  ExpectLieDetected(
      [](auto&, v1::StepFrame* result) {
        result->mutable_failure()->set_stage(2);
        result->mutable_failure()->set_code(13);
        result->mutable_failure()->set_message("NaN in the output");
      },
      "stage 2 failed: NaN in the output", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, LogitsOfTheWrongSizeBreakThePipeline) {
  Attach(1, [](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_logits("abc"); });
  GenerationTask task = Task({1}, 1);
  task.output = engine::SliceOutput::kLogits;
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("3 bytes of logits"));
  dispatcher_->Stop();
  EXPECT_EQ(collector.Wait().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, BrokenLinkIsReported) {
  Attach().BreakLink();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
  EXPECT_EQ(NextBroken().second.message(), "the fake link is broken");
  EXPECT_TRUE(pipelines_[0]->closed());
  Attach(2);
  EXPECT_TRUE(collector.Wait().ok());
}

TEST_F(DispatcherTest, FramesOfOtherEpochsAreDropped) {
  FakePipeline& pipeline = Attach(5);
  pipeline.Hold();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
  pipeline.WaitForFrames(1);
  auto stale = std::make_unique<v1::StepFrame>();
  stale->set_epoch(4);
  stale->set_step(1);
  dispatcher_->OnFrame(std::move(stale));
  pipeline.Go();
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue({1}, 3));
}

TEST_F(DispatcherTest, FrameWithoutAStepInFlightBreaksThePipeline) {
  Attach(1);
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(1);
  frame->set_step(1);
  dispatcher_->OnFrame(std::move(frame));
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("no step is in flight"));
}

TEST_F(DispatcherTest, WithoutAnyPipelineRequestsAreRefused) {
  Collector collector;
  EXPECT_EQ(dispatcher_->Submit(Task({1}, 3), &collector).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, RequestsWaitForTheNextPipelineUpToALimit) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector patient, late;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &patient).ok());
  pipeline.WaitForFrames(1);
  dispatcher_->DetachPipeline(1, absl::UnavailableError("worker b is gone"));
  clock_.Advance(std::chrono::seconds(29));
  ASSERT_TRUE(dispatcher_->Submit(Task({2}, 3), &late).ok());
  Attach(2);
  EXPECT_TRUE(patient.Wait().ok());
  EXPECT_TRUE(late.Wait().ok());
  EXPECT_EQ(patient.tokens, Continue({1}, 3));
}

TEST_F(DispatcherTest, RequestsEndUnavailableWhenNoPipelineComes) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector waiting, refused;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &waiting).ok());
  pipeline.WaitForFrames(1);
  dispatcher_->DetachPipeline(1, absl::UnavailableError("worker b is gone"));
  while (!pipeline.closed()) std::this_thread::yield();
  clock_.Advance(std::chrono::seconds(31));
  const absl::Status status = waiting.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker b is gone"));
  EXPECT_EQ(dispatcher_->Submit(Task({1}, 3), &refused).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, RequestThatKeepsBreakingPipelinesIsEnded) {
  Collector collector;
  for (uint64_t epoch = 1; epoch <= Dispatcher::kMaxInterruptions; ++epoch) {
    Attach(epoch, [](auto&, v1::StepFrame* result) { result->set_step(0); });
    if (epoch == 1) {
      ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
    }
    EXPECT_EQ(NextBroken().first, epoch);
  }
  const absl::Status status = collector.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("broke 3 times during this request"));
}

TEST_F(DispatcherTest, MovesToOtherPipelinesAreNoInterruptions) {
  Collector collector;
  for (uint64_t epoch = 1; epoch <= Dispatcher::kMaxInterruptions + 1; ++epoch) {
    FakePipeline& pipeline = Attach(epoch, nullptr, /*stages=*/1, /*held=*/true);
    if (epoch == 1) {
      ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
    }
    pipeline.WaitForFrames(1);
    dispatcher_->DetachPipeline(epoch, absl::CancelledError("layers move"));
  }
  Attach(99);
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue({1}, 3));
}

TEST_F(DispatcherTest, SubmitChecksTheTask) {
  Attach();
  Collector collector;
  const auto code = [&](GenerationTask task) {
    return dispatcher_->Submit(std::move(task), &collector).status().code();
  };
  EXPECT_EQ(code(Task({}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Task({1}, 0)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Task({kFakeVocab}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Task({-1}, 1)), absl::StatusCode::kInvalidArgument);
  const auto long_prompt = dispatcher_->Submit(Task(std::vector<int32_t>(600, 1), 1), &collector);
  EXPECT_EQ(long_prompt.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(long_prompt.status().message()), HasSubstr("600 tokens; the context of 512"));
}

TEST_F(DispatcherTest, FullQueueIsResourceExhausted) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  // 8 may wait; each needs half of the pages, so one runs (a second one would leave no page for growth).
  std::vector<std::unique_ptr<Collector>> collectors;
  int refused = 0;
  for (int i = 0; i < 12; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    const auto id = dispatcher_->Submit(Task(std::vector<int32_t>(500, i), 1), collectors.back().get());
    if (!id.ok()) {
      EXPECT_EQ(id.status().code(), absl::StatusCode::kResourceExhausted);
      collectors.pop_back();
      ++refused;
    }
  }
  pipeline.Go();
  for (auto& collector : collectors) {
    const absl::Status status = collector->Wait();
    if (status.ok()) continue;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    ++refused;
  }
  EXPECT_GE(refused, 3);
}

TEST_F(DispatcherTest, StopEndsEveryGeneration) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector running, refused;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 30), &running).ok());
  dispatcher_->Stop();
  dispatcher_->Stop();
  EXPECT_EQ(running.Wait().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(dispatcher_->Submit(Task({1}, 3), &refused).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(pipeline.closed());
}

}  // namespace
}  // namespace tandem::coordinator
