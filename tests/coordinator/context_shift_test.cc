// Sequences that go on at the end of the context: what they drop, that the rest is computed as for a new request, and
// that nothing which happens meanwhile changes an answer.
#include "coordinator/scheduler/context_shift.h"

#include <random>

#include "absl/strings/str_cat.h"

#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

class ContextShiftTest : public SchedulerTest {
 protected:
  std::vector<int32_t> Draw(std::span<const int32_t> history, int32_t guesses) override {
    std::vector<int32_t> drawn;
    for (size_t known = history.size() - guesses;; ++known) {
      drawn.push_back(testing::NextToken(history.first(known)) % vocab_);
      if (known == history.size() || drawn.back() != history[known]) return drawn;
    }
  }

  static SequenceSpec ShiftSpec(uint64_t id, std::vector<int32_t> prompt, int32_t max_tokens, int32_t keep) {
    SequenceSpec spec = Spec(id, std::move(prompt), max_tokens);
    spec.shift = true;
    spec.keep = keep;
    return spec;
  }

  // What one that goes on says, from the definition.
  std::vector<int32_t> Alone(const SequenceSpec& spec) const {
    std::vector<int32_t> tokens = spec.prompt, answer;
    while (static_cast<int32_t>(answer.size()) < spec.max_tokens) {
      if (static_cast<int32_t>(tokens.size()) == config_.context) {
        if (!spec.shift) break;
        std::vector<int32_t> left(tokens.begin(), tokens.begin() + spec.keep);
        const int32_t newest = (config_.context - spec.keep) / 2;
        left.insert(left.end(), tokens.end() - newest, tokens.end());
        tokens = left;
      }
      tokens.push_back(testing::NextToken(tokens) % vocab_);
      answer.push_back(tokens.back());
    }
    return answer;
  }

  int32_t vocab_ = testing::kFakeVocab;
};

TEST_F(ContextShiftTest, GoesOnAsANewRequestWithTheTokensLeftWould) {
  SchedulerConfig config = Config();
  config.context = 48;
  Start(config);
  const SequenceSpec spec = ShiftSpec(1, Prompt(3, 20), 300, /*keep=*/5);
  ASSERT_TRUE(Add(spec).ok());
  for (int i = 0; i < 40; ++i) PlanAll(), FinishStep();
  const Sequence& sequence = *scheduler_->Find(1);
  EXPECT_EQ(sequence.generated_tokens(), 40);
  EXPECT_EQ(sequence.shifts, 1) << "28 tokens fill the context, and 22 of them make room for as many";
  EXPECT_EQ(sequence.dropped, 22);
  RunToEnd();
  EXPECT_EQ(results_[1], Alone(spec));
  EXPECT_EQ(reasons_[1], FinishReason::kLength);
  for (const StepPlan& plan : plans_) EXPECT_LT(plan.slices[0].position + plan.slices[0].count, config.context);
}

TEST_F(ContextShiftTest, TheSmallestContextsGoOnToo) {
  for (int32_t context = 2; context <= 9; ++context) {
    for (int32_t keep = 0; keep <= context / 2; ++keep) {
      SCOPED_TRACE(::testing::PrintToString(std::make_pair(context, keep)));
      SchedulerConfig config = Config();
      config.context = context;
      Start(config);
      const SequenceSpec spec = ShiftSpec(1, Prompt(3, 1), 30, keep);
      ASSERT_TRUE(Add(spec).ok());
      RunToEnd(/*most_steps=*/100);
      EXPECT_EQ(results_[1], Alone(spec));
    }
  }
}

TEST_F(ContextShiftTest, TheBeginningThatIsKeptIsNotComputedAgain) {
  SchedulerConfig config = Config();
  config.context = 100;
  Start(config);
  const SequenceSpec spec = ShiftSpec(1, Prompt(3, 60), 60, /*keep=*/37);
  ASSERT_TRUE(Add(spec).ok());
  RunToEnd();
  EXPECT_EQ(results_[1], Alone(spec));
  int shifts = 0;
  for (size_t i = 1; i < plans_.size(); ++i) {
    if (plans_[i].slices[0].position > plans_[i - 1].slices[0].position) continue;
    ++shifts;
    EXPECT_EQ(plans_[i].slices[0].position, 37) << "two pages of 16 tokens, and five tokens of a copied one";
    EXPECT_EQ(plans_[i].slices[0].count, 31);
  }
  EXPECT_EQ(shifts, 1);
}

TEST_F(ContextShiftTest, OneThatShiftsIsNotOvertakenByThoseThatWait) {
  SchedulerConfig config = Config(/*stages=*/1, /*pages=*/6);
  config.context = 64;
  Start(config);
  ASSERT_TRUE(Add(ShiftSpec(1, Prompt(3, 40), 100, 0)).ok());
  PlanAll(), FinishStep();
  ASSERT_TRUE(Add(2, Prompt(500, 60), 2).ok());
  RunToEnd();
  EXPECT_LT(ended_[1], ended_[2]);
}

TEST_F(ContextShiftTest, AStopIdAsTheLastTokenOfTheContextEndsTheAnswer) {
  SchedulerConfig config = Config();
  config.context = 32;
  Start(config);
  SequenceSpec spec = ShiftSpec(1, Prompt(3, 20), 100, 0);
  const std::vector<int32_t> answer = Alone(spec);
  spec.stop_ids = {answer[11]};
  ASSERT_TRUE(Add(spec).ok());
  RunToEnd();
  EXPECT_EQ(results_[1], std::vector<int32_t>(answer.begin(), answer.begin() + 12));
  EXPECT_EQ(reasons_[1], FinishReason::kStop);
}

TEST_F(ContextShiftTest, TokensDrawnInVainAreNotDroppedBefore) {
  SchedulerConfig config = Config();
  config.context = 32;
  Start(config);
  ASSERT_TRUE(Add(ShiftSpec(1, Prompt(3, 31), 100, 0)).ok());
  PlanAll(), FinishStep();
  ASSERT_EQ(scheduler_->Find(1)->length(), 32);
  scheduler_->Finish(1, FinishReason::kStop, /*unwanted=*/1);
  EXPECT_EQ(scheduler_->Find(1)->generated_tokens(), 0);
  PlanAll();
  EXPECT_EQ(scheduler_->Find(1)->shifts, 0);
  scheduler_->Remove(1);
}

TEST_F(ContextShiftTest, KeepBeyondHalfOfTheContextIsRefusedWithBothNumbers) {
  SchedulerConfig config = Config();
  config.context = 65;
  Start(config);
  EXPECT_TRUE(Add(ShiftSpec(1, Prompt(3, 40), 100, 32)).ok());
  for (const int32_t keep : {33, 1 << 30, -1}) {
    const absl::Status status = Add(ShiftSpec(2, Prompt(3, 40), 100, keep)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("keep is ", keep, " ")));
    EXPECT_THAT(std::string(status.message()), HasSubstr("0 to 32, half of the context of 65"));
  }
}

// Guesses (of few words, so that many are tried and some are right), preemptions, new pipelines.
TEST_F(ContextShiftTest, RandomHistoriesGiveTheAnswersOfSequencesAlone) {
  int32_t shifts = 0, preempted = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    prompts_.clear(), results_.clear(), sent_.clear();
    vocab_ = pick(2, 6);
    SchedulerConfig config = Config(pick(1, 4), pick(6, 16));
    config.max_step_tokens = pick(8, 200);
    config.context = pick(20, 90);
    config.max_guessed_tokens = 16;
    Start(config);
    std::map<uint64_t, SequenceSpec> specs;
    for (uint64_t id = 1; id <= 5; ++id) {
      SequenceSpec spec =
          ShiftSpec(id, Prompt(pick(0, 900), pick(1, config.context - 1)), pick(1, 150), pick(0, config.context / 2));
      spec.shift = pick(0, 3) > 0;
      spec.may_guess = pick(0, 1) > 0;
      ASSERT_TRUE(Add(spec).ok());
      specs[id] = spec;
    }
    for (int i = 0; i < 300; ++i) {
      const int action = pick(0, 99);
      if (action < 2) {
        scheduler_->Halt(/*interruption=*/false);
        config_.num_stages = pick(1, 4);
        config_.max_in_flight = config_.num_stages + 1;
        EXPECT_THAT(scheduler_->Reset(config_), IsEmpty());
        cache_.emplace(config_.page_tokens);
        sent_.clear();
      } else if (action < 50) {
        PlanAll();
      } else if (scheduler_->oldest_in_flight() != nullptr) {
        FinishStep();
      }
      for (const auto& [id, spec] : specs) {
        const Sequence* sequence = scheduler_->Find(id);
        if (sequence == nullptr) continue;
        shifts = std::max(shifts, sequence->shifts);
        preempted += sequence->state == SequenceState::kWaiting && sequence->started;
      }
    }
    RunToEnd();
    for (const auto& [id, spec] : specs) EXPECT_EQ(results_[id], Alone(spec)) << "sequence " << id;
  }
  EXPECT_GT(shifts, 3);
  EXPECT_GT(preempted, 0);
}

}  // namespace
}  // namespace tandem::coordinator
