// Guesses: what is guessed, that they never change an answer, and that they are given up where they do not pay.
#include <random>

#include "coordinator/scheduler/ngram_guesser.h"
#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

// What an NgramGuesser that is new makes of `text` and `ahead`.
std::vector<int32_t> Guessed(const std::vector<int32_t>& text, int32_t count, std::vector<int32_t> ahead = {}) {
  NgramGuesser guesser;
  const size_t before = ahead.size();
  const NgramMatch match = guesser.Find(text, ahead);
  if (match.kind != MatchKind::kNone) NgramGuesser::Append(match, count, text, &ahead);
  return {ahead.begin() + static_cast<ptrdiff_t>(before), ahead.end()};
}

TEST(NgramGuesserTest, GoesOnAsTheTextDidTheLastTime) {
  EXPECT_THAT(Guessed({1, 2, 3, 4, 5, 6, 7, 8}, 4), IsEmpty());
  EXPECT_THAT(Guessed({1, 2, 3, 4, 5, 6, 7, 8, 2, 3}, 4), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(Guessed({1, 2, 3, 4, 5, 6, 7, 8, 2, 3}, 0), IsEmpty());
  EXPECT_THAT(Guessed({1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 9, 2, 3}, 2), ElementsAre(9, 2)) << "the latest time counts";
  EXPECT_THAT(Guessed({1, 2, 3, 4, 5, 6, 7, 8, 2, 3}, 2, {4, 5}), ElementsAre(6, 7)) << "behind what is guessed";
  EXPECT_THAT(Guessed({1, 2, 3, 4, 5, 6, 7, 8}, 2, {2, 3}), ElementsAre(4, 5));
}

TEST(NgramGuesserTest, TheLongestMatchCounts) {
  EXPECT_THAT(Guessed({1, 2, 3, 10, 9, 2, 3, 20, 1, 2, 3}, 1), ElementsAre(10));
  NgramGuesser guesser;
  std::vector<int32_t> text;
  for (int32_t i = 0; i < 100; ++i) text.push_back(i);
  for (int32_t i = 90; i < 95; ++i) text.push_back(i);
  EXPECT_EQ(guesser.Find(text, {}).length, 5);
  for (int32_t i = 10; i < 80; ++i) text.push_back(i);
  const NgramMatch match = guesser.Find(text, {});
  EXPECT_EQ(match.after, 80);
  EXPECT_EQ(match.length, NgramGuesser::kMaxLength);
}

TEST(NgramGuesserTest, WhatIsFoundGrowsWithTheText) {
  NgramGuesser guesser;
  std::vector<int32_t> text;
  std::mt19937 random(7);
  int long_ones = 0;
  for (int step = 0; step < 600; ++step) {
    text.push_back(static_cast<int32_t>(random() % 2));
    const NgramMatch match = guesser.Find(text, {});
    const auto end = text.end(), before = text.begin() + match.after;
    EXPECT_TRUE(std::equal(end - match.length, end, before - match.length, before));
    NgramGuesser fresh;
    const NgramMatch expected = fresh.Find(text, {});
    EXPECT_EQ(match.kind == MatchKind::kLong, expected.kind == MatchKind::kLong);
    if (match.kind != MatchKind::kLong) continue;
    ++long_ones;
    EXPECT_EQ(match.after, expected.after);
    EXPECT_EQ(match.length, expected.length);
  }
  EXPECT_GT(long_ones, 50);
}

TEST(NgramGuesserTest, CopyGoesOnBehindAnEdit) {
  std::vector<int32_t> copied;
  for (int32_t i = 0; i < 50; ++i) copied.push_back(i);
  for (int32_t i = 0; i < 10; ++i) copied.push_back(i);
  const auto after = [&copied](const std::vector<int32_t>& edit) {
    NgramGuesser guesser;
    std::vector<int32_t> text = copied;
    NgramMatch match = guesser.Find(text, {});
    EXPECT_EQ(match.kind, MatchKind::kLong);
    for (const int32_t token : edit) {
      text.push_back(token);
      match = guesser.Find(text, {});
    }
    return std::pair(match.kind, match.after);
  };
  EXPECT_EQ(after({77}), std::pair(MatchKind::kReplaced, 11));
  EXPECT_EQ(after({77, 78}), std::pair(MatchKind::kReplaced, 12));
  EXPECT_EQ(after({77, 11}), std::pair(MatchKind::kNear, 12)) << "replaced";
  EXPECT_EQ(after({77, 10}), std::pair(MatchKind::kNear, 11)) << "put in";
  EXPECT_EQ(after({13}), std::pair(MatchKind::kNear, 14)) << "left out";
  EXPECT_EQ(after({40}), std::pair(MatchKind::kReplaced, 11)) << "not near";
  std::vector<int32_t> others;
  for (int32_t i = 0; i <= NgramGuesser::kMaxEdit; ++i) others.push_back(100 + i);
  EXPECT_EQ(after(others).first, MatchKind::kNone);
}

TEST(NgramGuesserTest, CopyOfGuessesThatAreGoneIsNotGoneOnWith) {
  NgramGuesser guesser;
  const std::vector<int32_t> text = {1, 2, 3, 4, 5, 6}, ahead = {7, 8, 1, 2};
  EXPECT_EQ(guesser.Find(text, ahead).after, 2);
  EXPECT_EQ(guesser.Find(text, {}).kind, MatchKind::kNone);
}

TEST(NgramGuesserTest, RepetitionGoesOnBeyondTheEnd) {
  EXPECT_THAT(Guessed({5, 6, 5, 6, 5, 6}, 6), ElementsAre(5, 6, 5, 6, 5, 6));
}

TEST(NgramGuesserTest, ShortTextsHaveNoEnding) {
  EXPECT_THAT(Guessed({}, 3), IsEmpty());
  EXPECT_THAT(Guessed({1}, 3), IsEmpty());
  EXPECT_THAT(Guessed({1, 1}, 3), IsEmpty());
}

TEST(GuessPaceTest, LongerWhereGuessesAreRightAndCheap) {
  const std::vector<double> dear = {1, 1.2, 1.4, 1.6, 1.8, 2, 2.2}, cheap = {1, 1.02, 1.04, 1.06, 1.08, 1.1, 1.12};
  EXPECT_EQ(BestGuesses(0.1, dear), 0);
  EXPECT_EQ(BestGuesses(0.1, cheap), 1);
  EXPECT_EQ(BestGuesses(0.6, dear), 2);
  EXPECT_EQ(BestGuesses(0.4, cheap), 3);
  EXPECT_EQ(BestGuesses(0.95, dear), 6);
  EXPECT_EQ(BestGuesses(0.95, std::vector<double>{1, 1, 1, 1.05, 3, 3.1}), 3) << "the last one before a jump";
  EXPECT_EQ(BestGuesses(0.95, std::vector<double>{1}), 0);
}

TEST(GuessPaceTest, ChanceFollowsWhatWasRight) {
  GuessChance chance(0.7);
  EXPECT_NEAR(chance.right(), 0.7, 1e-9);
  for (int i = 0; i < 20; ++i) chance.Learn(8, false);
  EXPECT_GT(chance.right(), 0.97);
  for (int i = 0; i < 120; ++i) chance.Learn(0, true);
  EXPECT_LT(chance.right(), 0.15);
  for (int i = 0; i < 200; ++i) chance.Learn(0, false);
  EXPECT_NEAR(chance.right(), 0.7, 0.01) << "it is tried again after a while";
}

TEST(StepTimesTest, SizesBetweenAndBeyondAreReckoned) {
  StepTimes times;
  EXPECT_NEAR(times.DecodeSeconds(3) / times.DecodeSeconds(1), 1.2, 1e-9) << "nothing is known";
  const std::vector<StageTime> stage = {{.compute_s = 0.1}};
  times.Observe(4, 0, stage, 0.13);
  EXPECT_NEAR(times.DecodeSeconds(4), 0.13, 1e-9);
  EXPECT_NEAR(times.DecodeSeconds(1), 0.1, 1e-9);
  EXPECT_GT(times.DecodeSeconds(5), 0.13);
  times.Observe(8, 0, stage, 0.21);
  EXPECT_NEAR(times.DecodeSeconds(6), 0.17, 1e-9);
  EXPECT_NEAR(times.DecodeSeconds(10), 0.25, 1e-9);
  times.Observe(300, 0, stage, 1.5);
  EXPECT_GT(times.DecodeSeconds(400), times.DecodeSeconds(300));
  times.Observe(2, 0, stage, 0.9);
  EXPECT_NEAR(times.DecodeSeconds(2), 0.13, 1e-9) << "a step that was held up";
  times.Observe(1, 64, stage, 5);
  EXPECT_LT(times.DecodeSeconds(1), 0.2) << "with tokens of a prompt";
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
    if (!says_.empty()) return says_[history.size()];
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
  std::vector<int32_t> says_;  // not empty: prompt and answer of every sequence
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

TEST_F(SpeculationTest, WrongGuessesGetRare) {
  Start(Speculative(1));
  seldom_ = 1;  // nothing repeats but by chance, and the vocabulary is large
  token_time_ = step_time_ / 5;
  std::vector<int32_t> prompt;
  for (int i = 0; i < 500; ++i) prompt.insert(prompt.end(), {i % 31, i % 37});
  ASSERT_TRUE(AddGuessed(1, prompt, 20).ok());
  RunToEnd();
  int32_t guesses = 0;
  for (const StepPlan& plan : plans_) guesses += static_cast<int32_t>(plan.slices[0].guesses.size());
  EXPECT_LE(guesses, 12);
}

TEST_F(SpeculationTest, EditedCopiesTakeHalfTheTime) {
  // Of 600 tokens every twentieth is left out, replaced, or has one put before it, in turn.
  std::mt19937 random(3);
  std::vector<int32_t> before, after;
  for (int32_t i = 0; i < 600; ++i) {
    before.push_back(static_cast<int32_t>(random() % 90));
    if (i % 60 == 10) continue;
    if (i % 60 == 50) after.push_back(96);
    after.push_back(i % 60 == 30 ? 95 : before.back());
  }
  says_ = before;
  says_.insert(says_.end(), after.begin(), after.end());
  token_time_ = step_time_ / 5;
  std::vector<Time::duration> times;
  for (SchedulerConfig config : {Config(1, 100), Speculative(1, 100)}) {
    config.context = 2000;
    Start(config);
    ASSERT_TRUE(AddGuessed(1, before, static_cast<int32_t>(after.size())).ok());
    do PlanAll(), FinishStep();
    while (scheduler_->Find(1)->generated_tokens() == 0);
    const Time begin = now_;
    RunToEnd();
    EXPECT_EQ(results_[1], after);
    times.push_back(now_ - begin);
  }
  EXPECT_LT(times[1], times[0] / 2);
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
