#include "coordinator/scheduler/scheduler.h"

#include <random>

#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

TEST_F(SchedulerTest, OneSequenceIsPrefilledThenDecodedTokenByToken) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(3, 20), 5).ok());
  RunToEnd();
  EXPECT_EQ(results_[1], testing::Continue(Prompt(3, 20), 5));
  EXPECT_EQ(reasons_[1], FinishReason::kLength);
  ASSERT_EQ(plans_.size(), 5u);
  EXPECT_EQ(plans_[0].slices[0].count, 20);
  EXPECT_EQ(plans_[0].slices[0].output, engine::SliceOutput::kSample);
  EXPECT_EQ(plans_[1].slices[0].position, 20);
  EXPECT_EQ(plans_[1].slices[0].count, 1);
}

TEST_F(SchedulerTest, StepMixesDecodesAndPrefillChunks) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(3, 20), 10).ok());
  PlanAll();
  FinishStep();
  ASSERT_TRUE(Add(2, Prompt(5, 400), 10).ok());
  PlanAll();
  ASSERT_EQ(plans_.size(), 3u);
  ASSERT_EQ(plans_[1].slices.size(), 2u);
  EXPECT_EQ(plans_[1].slices[0].sequence, 1u);
  EXPECT_EQ(plans_[1].slices[0].count, 1);
  EXPECT_EQ(plans_[1].slices[1].sequence, 2u);
  EXPECT_EQ(plans_[1].slices[1].count, 240) << "whole pages";
  EXPECT_EQ(plans_[1].slices[1].output, engine::SliceOutput::kNone);
  EXPECT_EQ(plans_[2].slices[0].count, 160) << "the rest follows, while the first sequence waits for its token";
}

TEST_F(SchedulerTest, PromptsShareAStep) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 500), 2).ok());
  ASSERT_TRUE(Add(2, Prompt(2, 30), 2).ok());
  PlanAll();
  ASSERT_EQ(plans_[0].slices.size(), 2u);
  EXPECT_EQ(plans_[0].slices[0].count, 128);
  EXPECT_EQ(plans_[0].slices[1].count, 30) << "a short prompt is not held up by a long one";
  RunToEnd();
  EXPECT_EQ(results_[1], testing::Continue(Prompt(1, 500), 2));
  EXPECT_EQ(results_[2], testing::Continue(Prompt(2, 30), 2));
}

TEST_F(SchedulerTest, OneStepMoreThanStagesIsInFlightAndChunksOfAPromptFollowEachOther) {
  Start(Config(/*stages=*/2));
  ASSERT_TRUE(Add(1, Prompt(1, 180), 4).ok());
  EXPECT_EQ(PlanAll(), 3);
  EXPECT_EQ(plans_[0].slices[0].count, 64);
  EXPECT_EQ(plans_[1].slices[0].position, 64);
  EXPECT_EQ(plans_[2].slices[0].position, 128);
  EXPECT_EQ(plans_[2].slices[0].output, engine::SliceOutput::kSample);
  EXPECT_EQ(scheduler_->PlanStep(now_), std::nullopt);
  RunToEnd();
  EXPECT_EQ(results_[1], testing::Continue(Prompt(1, 180), 4));
}

TEST_F(SchedulerTest, DecodesAreSpreadOverTheStages) {
  Start(Config(/*stages=*/2));
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(Add(id, Prompt(static_cast<int32_t>(id), 8), 50).ok());
  PlanAll();
  FinishStep();
  plans_.clear();
  EXPECT_EQ(PlanAll(), 2);
  EXPECT_EQ(plans_[0].slices.size(), 2u);
  EXPECT_EQ(plans_[1].slices.size(), 2u);
}

TEST_F(SchedulerTest, StopIdEndsTheSequence) {
  Start(Config());
  const auto answer = testing::Continue(Prompt(3, 9), 4);
  ASSERT_TRUE(Add(1, Prompt(3, 9), 100, {answer[2]}).ok());
  RunToEnd();
  EXPECT_EQ(reasons_[1], FinishReason::kStop);
  EXPECT_THAT(results_[1], ElementsAre(answer[0], answer[1], answer[2]));
}

TEST_F(SchedulerTest, FullContextEndsTheSequence) {
  SchedulerConfig config = Config();
  config.context = 24;
  Start(config);
  ASSERT_TRUE(Add(1, Prompt(3, 20), 100).ok());
  RunToEnd();
  EXPECT_EQ(reasons_[1], FinishReason::kContext);
  EXPECT_EQ(results_[1].size(), 4u);
}

TEST_F(SchedulerTest, CancelFreesPagesAtOnceEvenWithAStepInFlight) {
  Start(Config(1, 8));
  ASSERT_TRUE(Add(1, Prompt(1, 60), 50).ok());
  PlanAll();
  EXPECT_EQ(scheduler_->pages_used(), 4);
  scheduler_->Remove(1);
  EXPECT_EQ(scheduler_->pages_used(), 0);
  ASSERT_TRUE(Add(2, Prompt(2, 60), 3).ok());
  FinishStep();  // the cancelled sequence's: ignored
  EXPECT_EQ(results_.count(1), 0u);
  RunToEnd();
  EXPECT_EQ(results_[2], testing::Continue(Prompt(2, 60), 3));
}

TEST_F(SchedulerTest, PagesRunningOutPreemptTheYoungestWhichGivesTheSameAnswer) {
  Start(Config(1, 6));  // 96 tokens
  ASSERT_TRUE(Add(1, Prompt(1, 30), 60).ok());
  ASSERT_TRUE(Add(2, Prompt(2, 30), 60).ok());
  bool preempted = false;
  for (int i = 0; i < 1000 && (scheduler_->Find(1) != nullptr || scheduler_->Find(2) != nullptr); ++i) {
    PlanAll();
    const Sequence* young = scheduler_->Find(2);
    preempted |= young != nullptr && young->state == SequenceState::kWaiting && young->generated_tokens() > 0;
    const Sequence* old = scheduler_->Find(1);
    EXPECT_TRUE(old == nullptr || old->state == SequenceState::kRunning);
    FinishStep();
  }
  EXPECT_TRUE(preempted);
  EXPECT_EQ(results_[1], testing::Continue(Prompt(1, 30), 60));
  EXPECT_EQ(results_[2], testing::Continue(Prompt(2, 30), 60));
  RunToEnd();
}

TEST_F(SchedulerTest, ResetRecomputesAndGoesOnWithTheSameTokens) {
  Start(Config(2));
  ASSERT_TRUE(Add(1, Prompt(1, 100), 30).ok());
  for (int i = 0; i < 10; ++i) {
    PlanAll();
    FinishStep();
  }
  PlanAll();
  scheduler_->Halt(/*interruption=*/true);
  EXPECT_EQ(scheduler_->Find(1)->interruptions, 1);
  EXPECT_EQ(scheduler_->pages_used(), 0);
  EXPECT_EQ(scheduler_->PlanStep(now_), std::nullopt);
  config_ = Config(3, 32);
  EXPECT_THAT(scheduler_->Reset(config_), IsEmpty());
  cache_.emplace(config_.page_tokens);
  sent_.clear();
  RunToEnd();
  EXPECT_EQ(results_[1], testing::Continue(Prompt(1, 100), 30));
}

TEST_F(SchedulerTest, OnlyInterruptionsWithoutProgressCount) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 20), 40).ok());
  for (const int32_t expected : {1, 2, 3, 1}) {
    if (expected == 1) {  // it comes further than ever
      for (int i = 0; i < 5; ++i) {
        PlanAll();
        while (scheduler_->steps_in_flight() > 0) FinishStep();
      }
    }
    PlanAll();
    scheduler_->Halt(/*interruption=*/true);
    EXPECT_EQ(scheduler_->Find(1)->interruptions, expected);
    EXPECT_THAT(scheduler_->Reset(config_), IsEmpty());
    cache_.emplace(config_.page_tokens);
  }
}

TEST_F(SchedulerTest, ResetNamesSequencesThatCannotFitAnyMore) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 100), 30).ok());
  ASSERT_TRUE(Add(2, Prompt(1, 10), 30).ok());
  EXPECT_THAT(scheduler_->Reset(Config(1, 4)), ElementsAre(1));
}

TEST_F(SchedulerTest, LogitsOfEveryPositionInChunksThatFitAMessage) {
  SchedulerConfig config = Config();
  config.max_logit_rows = 10;
  Start(config);
  SequenceSpec spec;
  spec.id = 1;
  spec.prompt = prompts_[1] = Prompt(1, 24);
  spec.output = engine::SliceOutput::kLogits;
  ASSERT_TRUE(scheduler_->Add(std::move(spec), now_).ok());
  RunToEnd();
  ASSERT_EQ(plans_.size(), 3u);
  for (const StepPlan& plan : plans_) EXPECT_EQ(plan.slices[0].output, engine::SliceOutput::kLogits);
  EXPECT_EQ(plans_[2].slices[0].count, 4);
  EXPECT_EQ(reasons_[1], FinishReason::kComplete);
}

TEST_F(SchedulerTest, StatesComeWithTheSlicesThatHaveThem) {
  using engine::SliceOutput;
  SchedulerConfig config = Config();
  config.max_step_tokens = 64;
  Start(config);
  const auto outputs_of = [&](uint64_t id, SliceOutput output) {
    plans_.clear();
    SequenceSpec spec;
    spec.id = id;
    spec.prompt = prompts_[id] = Prompt(static_cast<int>(id), 150);
    spec.output = output;
    EXPECT_TRUE(scheduler_->Add(std::move(spec), now_).ok());
    RunToEnd();
    EXPECT_EQ(reasons_[id], FinishReason::kComplete);
    std::vector<SliceOutput> outputs;
    for (const StepPlan& plan : plans_) outputs.push_back(plan.slices[0].output);
    return outputs;
  };
  EXPECT_THAT(outputs_of(1, SliceOutput::kStateSum),
              ElementsAre(SliceOutput::kStateSum, SliceOutput::kStateSum, SliceOutput::kStateSum));
  EXPECT_THAT(outputs_of(2, SliceOutput::kLastState),
              ElementsAre(SliceOutput::kNone, SliceOutput::kNone, SliceOutput::kLastState));
  EXPECT_THAT(outputs_of(3, SliceOutput::kFirstState), ElementsAre(SliceOutput::kFirstState))
      << "nothing after the first token is needed";
}

TEST_F(SchedulerTest, AddRefusesWhatCannotBeServed) {
  Scheduler fresh(10);
  SequenceSpec spec;
  spec.id = 1;
  spec.prompt = {1};
  spec.max_tokens = 1;
  EXPECT_EQ(fresh.Add(spec, now_).status().code(), absl::StatusCode::kUnavailable);

  Start(Config(1, 8));
  EXPECT_EQ(Add(1, {}, 5).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Add(1, {1}, 0).message(), HasSubstr("max_tokens is 0"));
  const absl::Status too_long = Add(1, Prompt(1, 1024), 5);
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(too_long.message(), HasSubstr("1024 tokens; the context of 1024 tokens has room for 1023"));
  const absl::Status too_big = Add(1, Prompt(1, 100), 100);
  EXPECT_EQ(too_big.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(too_big.message(), HasSubstr("13 pages; the pipeline has 8"));
  EXPECT_TRUE(Add(1, Prompt(1, 100), 29).ok()) << "128 computed tokens fit 8 pages exactly";
}

TEST_F(SchedulerTest, FullQueueRefuses) {
  Start(Config(), /*max_waiting=*/2);
  ASSERT_TRUE(Add(1, {1}, 1).ok());
  ASSERT_TRUE(Add(2, {1}, 1).ok());
  EXPECT_EQ(Add(3, {1}, 1).code(), absl::StatusCode::kResourceExhausted);
  PlanAll();
  EXPECT_TRUE(Add(4, {1}, 1).ok()) << "those admitted do not count";
}

TEST_F(SchedulerTest, TimesAreThoseOfFirstStepFirstAndLastToken) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 10), 3).ok());
  now_ += std::chrono::seconds(2);
  PlanAll();
  const Time first_step = now_;
  FinishStep();
  const Sequence& sequence = *scheduler_->Find(1);
  EXPECT_EQ(SecondsBetween(sequence.arrival, sequence.first_step), 2.0);
  EXPECT_EQ(sequence.first_step, first_step);
  EXPECT_EQ(sequence.first_token, now_);
}

// Random arrivals, cancellations and new pipelines: every answer is the one a sequence gives alone, pages are never
// shared or lost, and nobody starves.
TEST_F(SchedulerTest, RandomHistoriesGiveTheAnswersOfSequencesAlone) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    prompts_.clear(), results_.clear(), sent_.clear();
    SchedulerConfig config = Config(pick(1, 4), pick(8, 20));
    config.max_step_tokens = pick(8, 200);
    config.context = 120;
    Start(config);
    std::map<uint64_t, int32_t> lengths;
    std::set<uint64_t> cancelled;
    uint64_t next_id = 1;
    for (int i = 0; i < 400; ++i) {
      const int action = pick(0, 99);
      if (action < 12) {
        const int32_t length = pick(1, 60), most = pick(1, 50);
        ASSERT_TRUE(Add(next_id, Prompt(pick(0, 900), length), most).ok());
        lengths[next_id++] = most;
      } else if (action < 15 && next_id > 1) {
        const uint64_t id = static_cast<uint64_t>(pick(1, static_cast<int>(next_id) - 1));
        if (scheduler_->Find(id) != nullptr) cancelled.insert(id);
        scheduler_->Remove(id);
      } else if (action < 16) {
        scheduler_->Halt(/*interruption=*/pick(0, 1) == 1);
        config_.num_stages = pick(1, 4);
        config_.max_in_flight = config_.num_stages + 1;
        EXPECT_THAT(scheduler_->Reset(config_), IsEmpty());
        cache_.emplace(config_.page_tokens);
        sent_.clear();
      } else if (action < 60) {
        PlanAll();
      } else if (scheduler_->oldest_in_flight() != nullptr) {
        FinishStep();
      }
    }
    RunToEnd();
    for (const auto& [id, most] : lengths) {
      if (cancelled.count(id) > 0) continue;
      EXPECT_EQ(results_[id], testing::Continue(prompts_[id], most)) << "sequence " << id;
    }
  }
}

}  // namespace
}  // namespace tandem::coordinator
