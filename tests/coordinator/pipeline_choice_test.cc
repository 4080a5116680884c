#include "coordinator/scheduler/pipeline_choice.h"

#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

class PipelineChoiceTest : public ::testing::Test {
 protected:
  static SequenceSpec Spec(uint64_t id, std::vector<int32_t> prompt, int32_t max_tokens = 64) {
    SequenceSpec spec;
    spec.id = id;
    spec.prompt = std::move(prompt);
    spec.max_tokens = max_tokens;
    return spec;
  }
  PipelineChoiceTest() {
    for (Scheduler* scheduler : {&a_, &b_}) EXPECT_THAT(scheduler->Reset(Config()), IsEmpty());
  }
  // Runs a sequence on `scheduler` to its end, so its beginning is known there.
  void Learn(Scheduler* scheduler, const std::vector<int32_t>& prompt) {
    ASSERT_TRUE(scheduler->Add(Spec(1000, prompt, 1), now_).ok());
    while (scheduler->PlanStep(now_)) {
      const std::vector<std::vector<int32_t>> drawn(scheduler->oldest_in_flight()->slices.size(), {1});
      scheduler->OnStepResult(drawn, {}, now_);
    }
    scheduler->Remove(1000);
  }
  size_t Choose(const SequenceSpec& spec, double speed_of_b = 1) {
    const PipelineOffer offers[] = {{&a_, 1}, {&b_, speed_of_b}};
    return ChoosePipeline(offers, spec);
  }

  Scheduler a_{100}, b_{100};
  Time now_;
};

TEST_F(PipelineChoiceTest, TheLeastLoadedOneIsChosen) {
  EXPECT_EQ(Choose(Spec(1, Prompt(1, 50))), 0u);
  ASSERT_TRUE(a_.Add(Spec(1, Prompt(1, 50)), now_).ok());
  EXPECT_EQ(Choose(Spec(2, Prompt(2, 50))), 1u);
  ASSERT_TRUE(b_.Add(Spec(2, Prompt(2, 80)), now_).ok());
  EXPECT_EQ(Choose(Spec(3, Prompt(3, 50))), 0u);
}

TEST_F(PipelineChoiceTest, SpeedCounts) {
  ASSERT_TRUE(a_.Add(Spec(1, Prompt(1, 100)), now_).ok());
  ASSERT_TRUE(b_.Add(Spec(2, Prompt(2, 100)), now_).ok());
  EXPECT_EQ(Choose(Spec(3, Prompt(3, 100)), /*speed_of_b=*/2), 1u);
  EXPECT_EQ(Choose(Spec(3, Prompt(3, 100)), /*speed_of_b=*/0.5), 0u);
}

TEST_F(PipelineChoiceTest, AKnownBeginningIsWorthTheTimeOfComputingIt) {
  Learn(&b_, Prompt(5, 400));
  EXPECT_EQ(b_.KnownTokens(Spec(1, Prompt(5, 500))), 400);
  EXPECT_EQ(Choose(Spec(1, Prompt(5, 500))), 1u);
  EXPECT_EQ(Choose(Spec(1, Prompt(6, 500))), 0u);
  // Less to do elsewhere, but not by as much.
  ASSERT_TRUE(b_.Add(Spec(1, Prompt(7, 100)), now_).ok());
  EXPECT_EQ(Choose(Spec(2, Prompt(5, 500))), 1u);
  ASSERT_TRUE(b_.Add(Spec(3, Prompt(8, 200)), now_).ok());
  EXPECT_EQ(Choose(Spec(2, Prompt(5, 500))), 0u);
}

TEST_F(PipelineChoiceTest, OthersAdaptersKeysAreNotKnown) {
  Learn(&b_, Prompt(5, 400));
  SequenceSpec spec = Spec(1, Prompt(5, 500));
  spec.domain = "0*3f800000 ";
  EXPECT_EQ(Choose(spec), 0u);
}

TEST_F(PipelineChoiceTest, OneThatCouldNeverTakeItIsNotChosen) {
  EXPECT_THAT(a_.Reset(Config(/*stages=*/1, /*pages=*/8)), IsEmpty());
  ASSERT_TRUE(b_.Add(Spec(1, Prompt(7, 100)), now_).ok());
  EXPECT_EQ(Choose(Spec(2, Prompt(1, 200))), 1u);
  EXPECT_EQ(Choose(Spec(2, Prompt(1, 20))), 0u);
}

TEST_F(PipelineChoiceTest, AFullQueueComesLast) {
  Scheduler full(1);
  EXPECT_THAT(full.Reset(Config()), IsEmpty());
  ASSERT_TRUE(full.Add(Spec(1, Prompt(1, 20)), now_).ok());
  ASSERT_TRUE(a_.Add(Spec(2, Prompt(2, 900)), now_).ok());
  const PipelineOffer offers[] = {{&full, 1}, {&a_, 1}};
  EXPECT_EQ(ChoosePipeline(offers, Spec(3, Prompt(3, 20))), 1u);
  ASSERT_TRUE(full.PlanStep(now_).has_value());
  EXPECT_EQ(ChoosePipeline(offers, Spec(3, Prompt(3, 20))), 0u);
}

// The youngest go, until it does not pay any more.
TEST_F(PipelineChoiceTest, ANewPipelineTakesItsShare) {
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_TRUE(a_.Add(Spec(id, Prompt(static_cast<int32_t>(id), 50)), now_).ok());
  }
  ASSERT_TRUE(a_.PlanStep(now_).has_value());
  const PipelineOffer offers[] = {{&a_, 1}, {&b_, 1}};
  std::vector<uint64_t> moved;
  while (const auto move = FindShare(offers)) {
    EXPECT_EQ(move->from, 0u);
    moved.push_back(move->sequence);
    b_.Adopt(a_.Release(move->sequence));
  }
  EXPECT_THAT(moved, ElementsAre(6, 5)) << "the prompts of others are under way";
}

TEST_F(PipelineChoiceTest, ThePastOfAMovedSequenceGoesWithIt) {
  ASSERT_TRUE(a_.Add(Spec(1, Prompt(1, 20), 3), now_).ok());
  for (const int32_t token : {41, 42}) {
    ASSERT_TRUE(a_.PlanStep(now_).has_value());
    ASSERT_EQ(a_.OnStepResult(std::vector<std::vector<int32_t>>{{token}}, {}, now_).size(), 1u);
  }
  ASSERT_TRUE(a_.PlanStep(now_).has_value());
  b_.Adopt(a_.Release(1));
  EXPECT_EQ(a_.Find(1), nullptr);
  EXPECT_EQ(a_.pages_used(), 0);
  EXPECT_EQ(a_.Backlog(), 0);
  EXPECT_EQ(b_.Backlog(), 22 + 2 * 1);
  // What was on its way is no news any more.
  EXPECT_THAT(a_.OnStepResult(std::vector<std::vector<int32_t>>{{43}}, {}, now_), IsEmpty());
  const auto plan = b_.PlanStep(now_);
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->slices[0].count, 22);
  const std::vector<SliceEvent> events = b_.OnStepResult(std::vector<std::vector<int32_t>>{{43}}, {}, now_);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].finish, FinishReason::kLength);
}

TEST_F(PipelineChoiceTest, OnlyWhoWaitsForPagesIsBlocked) {
  ASSERT_TRUE(a_.Add(Spec(1, Prompt(1, 900)), now_).ok());
  EXPECT_EQ(a_.Blocked(now_), nullptr);
  ASSERT_TRUE(a_.PlanStep(now_).has_value());
  ASSERT_TRUE(a_.Add(Spec(2, Prompt(2, 900)), now_).ok());
  ASSERT_TRUE(a_.Add(Spec(3, Prompt(3, 20)), now_).ok());
  ASSERT_NE(a_.Blocked(now_), nullptr);
  EXPECT_EQ(a_.Blocked(now_)->spec.id, 2u);
  // Those before it need not have been admitted yet.
  ASSERT_TRUE(b_.Add(Spec(4, Prompt(1, 500)), now_).ok());
  ASSERT_TRUE(b_.Add(Spec(5, Prompt(2, 600)), now_).ok());
  ASSERT_NE(b_.Blocked(now_), nullptr);
  EXPECT_EQ(b_.Blocked(now_)->spec.id, 5u);
  b_.Remove(4);
  b_.Remove(5);
  EXPECT_TRUE(b_.HasRoomFor(*a_.Blocked(now_)));
  b_.Halt(/*interruption=*/true);
  EXPECT_FALSE(b_.HasRoomFor(*a_.Blocked(now_)));
}

}  // namespace
}  // namespace tandem::coordinator
