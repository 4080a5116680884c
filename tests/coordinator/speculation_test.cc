// Guesses: what is guessed, that they never change an answer, and that they are given up where they do not pay.
#include <random>

#include "coordinator/scheduler/ngram_guesser.h"
#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

TEST(NgramGuesserTest, GoesOnAsTheTextDidTheLastTime) {
  NgramGuesser guesser;
  std::vector<int32_t> text = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_THAT(guesser.Guess(text, {}, 4), IsEmpty());
  text.insert(text.end(), {2, 3});
  EXPECT_THAT(guesser.Guess(text, {}, 4), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(guesser.Guess(text, {}, 1), ElementsAre(4));
  EXPECT_THAT(guesser.Guess(text, {}, 0), IsEmpty());
  text.insert(text.end(), {9, 2, 3});
  EXPECT_THAT(guesser.Guess(text, {}, 2), ElementsAre(9, 2)) << "the latest time counts";
}

TEST(NgramGuesserTest, LongerEndingsCountMore) {
  NgramGuesser guesser;
  const std::vector<int32_t> text = {1, 2, 3, 10, 9, 2, 3, 20, 1, 2, 3};
  EXPECT_THAT(guesser.Guess(text, {}, 1), ElementsAre(10));
}

TEST(NgramGuesserTest, RepetitionGoesOnBeyondTheEnd) {
  NgramGuesser guesser;
  const std::vector<int32_t> text = {5, 6, 5, 6, 5, 6};
  EXPECT_THAT(guesser.Guess(text, {}, 6), ElementsAre(5, 6, 5, 6, 5, 6));
}

TEST(NgramGuesserTest, ShortTextsHaveNoEnding) {
  NgramGuesser guesser;
  EXPECT_THAT(guesser.Guess({}, {}, 3), IsEmpty());
  EXPECT_THAT(guesser.Guess(std::vector<int32_t>{1}, {}, 3), IsEmpty());
  EXPECT_THAT(guesser.Guess(std::vector<int32_t>{1, 1}, {}, 3), IsEmpty());
}

TEST(GuessPaceTest, FollowsWhatWasRight) {
  GuessPace pace;
  EXPECT_EQ(pace.Next(), 4);
  pace.Learn(4, 4);
  EXPECT_EQ(pace.Next(), 8);
  pace.Learn(32, 32);
  pace.Learn(40, 40);
  EXPECT_EQ(pace.Next(), 64) << "no longer than that";
  pace.Learn(4, 4);
  EXPECT_EQ(pace.Next(), 64) << "the text was at its end, or the step full";
  pace.Learn(16, 5);
  EXPECT_EQ(pace.Next(), 6);
}

TEST(GuessPaceTest, LeavesStepsOutAfterThreeMissesInARow) {
  GuessPace pace;
  pace.Learn(4, 0);
  pace.Learn(1, 0);
  EXPECT_EQ(pace.Next(), 1);
  for (const int pause : {2, 4, 8, 16, 32, 32}) {
    pace.Learn(1, 0);
    for (int step = 0; step < pause; ++step) {
      EXPECT_EQ(pace.Next(), 0);
      pace.Learn(0, 0);
    }
    EXPECT_EQ(pace.Next(), 1);
  }
  pace.Learn(1, 1);
  EXPECT_EQ(pace.Next(), 2);
}

// A scheduler that may guess, and a model that mostly repeats itself: the token after x is x + 1 within a round of
// `period`, but for one in `seldom` places.
class SpeculationTest : public SchedulerTest {
 protected:
  std::vector<int32_t> Draw(std::span<const int32_t> history, int32_t guesses) override {
    std::vector<int32_t> drawn;
    for (size_t known = history.size() - guesses;; ++known) {
      drawn.push_back(Next(history.first(known)));
      if (known == history.size() || drawn.back() != history[known]) return drawn;
    }
  }
  int32_t Next(std::span<const int32_t> history) const {
    const int32_t chance = testing::NextToken(history);
    return chance % seldom_ == 0 ? chance : (history.back() + 1) % period_;
  }
  std::vector<int32_t> Alone(std::vector<int32_t> tokens, int32_t count) const {
    const auto prompt = static_cast<ptrdiff_t>(tokens.size());
    for (int32_t i = 0; i < count; ++i) tokens.push_back(Next(tokens));
    return {tokens.begin() + prompt, tokens.end()};
  }
  SchedulerConfig Speculative(int32_t stages, int32_t pages = 64) {
    SchedulerConfig config = Config(stages, pages);
    config.max_guessed_tokens = 16;
    return config;
  }
  absl::Status AddGuessed(uint64_t id, std::vector<int32_t> prompt, int32_t most) {
    SequenceSpec spec = Spec(id, std::move(prompt), most);
    spec.may_guess = true;
    return Add(std::move(spec)).status();
  }

  int32_t period_ = 12, seldom_ = 1000;
};

TEST_F(SpeculationTest, RepetitionTakesFewSteps) {
  Start(Speculative(1));
  ASSERT_TRUE(AddGuessed(1, {1, 2, 3}, 200).ok());
  RunToEnd();
  EXPECT_EQ(results_[1], Alone({1, 2, 3}, 200));
  EXPECT_LT(plans_.size(), 50u);
}

TEST_F(SpeculationTest, AnswersAreThoseWithoutGuessesWhateverTheModelDoes) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    prompts_.clear(), results_.clear(), sent_.clear();
    period_ = pick(2, 40), seldom_ = pick(1, 20);
    SchedulerConfig config = Speculative(pick(1, 4), pick(10, 30));
    config.max_step_tokens = pick(8, 200);
    config.context = 150;
    Start(config);
    std::map<uint64_t, int32_t> lengths;
    for (uint64_t id = 1; id <= 6; ++id) {
      lengths[id] = pick(1, 80);
      ASSERT_TRUE(AddGuessed(id, Prompt(pick(0, 900), pick(1, 60)), lengths[id]).ok());
    }
    RunToEnd();
    for (const auto& [id, most] : lengths) EXPECT_EQ(results_[id], Alone(prompts_[id], most)) << "sequence " << id;
  }
}

TEST_F(SpeculationTest, StopIdAmongRightGuessesEndsTheAnswerThere) {
  Start(Speculative(1));
  period_ = 6;
  SequenceSpec spec = Spec(1, {0, 1, 2, 3, 4, 5, 0, 1}, 100);
  spec.may_guess = true;
  spec.stop_ids = {4};
  ASSERT_TRUE(Add(spec).ok());
  RunToEnd();
  EXPECT_THAT(results_[1], ElementsAre(2, 3, 4));
  EXPECT_EQ(reasons_[1], FinishReason::kStop);
}

TEST_F(SpeculationTest, UnwantedTokensAreDropped) {
  Start(Speculative(1));
  ASSERT_TRUE(AddGuessed(1, {1, 2, 3, 4, 1, 2}, 100).ok());
  PlanAll();
  FinishStep();
  const int32_t before = scheduler_->Find(1)->generated_tokens();
  scheduler_->Finish(1, FinishReason::kStop, /*unwanted=*/1);
  EXPECT_EQ(scheduler_->Find(1)->generated_tokens(), before - 1);
  scheduler_->Remove(1);
}

TEST_F(SpeculationTest, WrongGuessesArePaused) {
  Start(Speculative(1));
  seldom_ = 1;  // nothing repeats but by chance, and the vocabulary is large
  std::vector<int32_t> prompt;
  for (int i = 0; i < 500; ++i) prompt.insert(prompt.end(), {i % 31, i % 37});
  ASSERT_TRUE(AddGuessed(1, prompt, 20).ok());
  RunToEnd();
  int32_t guesses = 0;
  for (const StepPlan& plan : plans_) guesses += static_cast<int32_t>(plan.slices[0].guesses.size());
  EXPECT_LE(guesses, 12);
}

TEST_F(SpeculationTest, NothingIsGuessedWhereThereIsRealWork) {
  Start(Speculative(1, /*pages=*/200));
  for (uint64_t id = 1; id <= 12; ++id) ASSERT_TRUE(AddGuessed(id, {1, 2, 3}, 100).ok());
  PlanAll(), FinishStep();
  plans_.clear();
  for (int i = 0; i < 30; ++i) PlanAll(), FinishStep();
  for (const StepPlan& plan : plans_) {
    for (const PlannedSlice& slice : plan.slices) EXPECT_THAT(slice.guesses, IsEmpty());
  }
  RunToEnd();
}

}  // namespace
}  // namespace tandem::coordinator
