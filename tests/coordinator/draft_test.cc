// Guesses of a draft model, as the scheduler sees them: asked for, late, wrong, several steps ahead; and never a change
// of an answer.
#include <deque>
#include <random>

#include "coordinator/scheduler/guesses.h"
#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

TEST(GuessesTest, WrongOneEndsTheBranch) {
  Guesses guesses;
  guesses.Await(/*wait=*/true);
  EXPECT_TRUE(guesses.waits_for_draft());
  guesses.OnDraft(std::vector<int32_t>{4, 5, 6}, {});
  EXPECT_FALSE(guesses.awaits_draft());
  EXPECT_EQ(guesses.size(), 3);
  const uint32_t branch = guesses.branch();
  EXPECT_TRUE(guesses.OnDrawn(4, /*sent=*/2));
  EXPECT_EQ(guesses.branch(), branch);
  EXPECT_FALSE(guesses.OnDrawn(7, /*sent=*/1));
  EXPECT_NE(guesses.branch(), branch);
  EXPECT_THAT(guesses.ahead(), IsEmpty());
  EXPECT_EQ(guesses.right(), 1);
}

TEST(GuessesTest, DraftIsComparedWithWhatFollowedMeanwhile) {
  Guesses guesses;
  guesses.Await(false);
  guesses.OnDraft(std::vector<int32_t>{4, 5, 6}, std::vector<int32_t>{4});
  EXPECT_THAT(guesses.ahead(), ElementsAre(5, 6));
  Guesses late;
  late.Await(false);
  late.OnDraft(std::vector<int32_t>{4, 5}, std::vector<int32_t>{4, 5, 6});
  EXPECT_THAT(late.ahead(), IsEmpty());
  Guesses wrong;
  wrong.Await(false);
  wrong.OnDraft(std::vector<int32_t>{4, 5}, std::vector<int32_t>{3});
  EXPECT_THAT(wrong.ahead(), IsEmpty());
  EXPECT_EQ(wrong.branch(), 0u) << "steps in flight did not rest on it";
}

// A draft model that answers when it is told to, and is right with a given chance.
class DraftTest : public SchedulerTest {
 protected:
  SchedulerConfig Drafted(int32_t stages, int32_t pages = 64) {
    SchedulerConfig config = Config(stages, pages);
    config.max_guessed_tokens = 16;
    config.drafts = true;
    return config;
  }
  absl::Status AddDrafted(uint64_t id, std::vector<int32_t> prompt, int32_t most) {
    SequenceSpec spec = Spec(id, std::move(prompt), most);
    spec.may_guess = true;
    return Add(std::move(spec)).status();
  }
  void PlanAndAsk() {
    PlanAll();
    for (const DraftRequest& request : scheduler_->TakeDraftRequests()) {
      const Sequence& sequence = *scheduler_->Find(request.sequence);
      const int32_t end = sequence.length() + sequence.guesses.size();
      EXPECT_EQ(request.position, end);
      EXPECT_GT(request.count, 0);
      asked_.emplace_back(request, sequence.TokensOf(0, end));
    }
  }
  // Answers the oldest request.
  void Answer(double right, int32_t most = 1000) {
    auto [request, tokens] = std::move(asked_.front());
    asked_.pop_front();
    std::vector<int32_t> drafted;
    while (static_cast<int32_t>(drafted.size()) < std::min(request.count, most)) {
      const bool is_right = std::uniform_real_distribution<double>(0, 1)(random_) < right;
      drafted.push_back(is_right ? testing::NextToken(tokens) : static_cast<int32_t>(random_() % testing::kFakeVocab));
      tokens.push_back(drafted.back());
    }
    scheduler_->OnDraft(request, drafted, now_);
  }
  // To the end, a draft after each step.
  void RunDrafted(double right) {
    while (true) {
      PlanAndAsk();
      while (!asked_.empty()) {
        now_ += std::chrono::microseconds(10);
        Answer(right);
        PlanAndAsk();
      }
      if (scheduler_->oldest_in_flight() == nullptr) return;
      FinishStep();
    }
  }
  std::vector<int32_t> Alone(uint64_t id, int32_t most) { return testing::Continue(prompts_[id], most); }

  std::mt19937 random_{7};
  std::deque<std::pair<DraftRequest, std::vector<int32_t>>> asked_;
};

TEST_F(DraftTest, RightDraftsTakeFewSteps) {
  Start(Drafted(1));
  ASSERT_TRUE(AddDrafted(1, {1, 2, 3}, 200).ok());
  RunDrafted(1.0);
  EXPECT_EQ(results_[1], Alone(1, 200));
  EXPECT_LT(plans_.size(), 60u);
}

TEST_F(DraftTest, SeveralStepsOfOneSequenceAreInFlight) {
  Start(Drafted(4));
  ASSERT_TRUE(AddDrafted(1, {1, 2, 3}, 400).ok());
  size_t most = 0;
  int ticks = 0;
  while (results_.empty()) {
    PlanAndAsk();
    while (!asked_.empty()) Answer(1.0), PlanAndAsk();
    most = std::max(most, scheduler_->steps_in_flight());
    FinishStep();
    ++ticks;
  }
  EXPECT_EQ(results_[1], Alone(1, 400));
  EXPECT_EQ(most, 4u);
  EXPECT_LT(ticks, 120);
}

TEST_F(DraftTest, WithoutAnAnswerTheSequenceGoesOnUntilItWaits) {
  Start(Drafted(2));
  ASSERT_TRUE(AddDrafted(1, {1, 2, 3}, 50).ok());
  for (int i = 0; i < 10; ++i) PlanAndAsk(), FinishStep();
  ASSERT_EQ(asked_.size(), 1u) << "one at a time";
  EXPECT_EQ(scheduler_->Find(1)->generated_tokens(), 10) << "the first draft reads the prompt, which takes long";
  Answer(1.0);
  EXPECT_THAT(scheduler_->Find(1)->guesses.ahead(), IsEmpty()) << "too late";
  RunDrafted(1.0);
  EXPECT_EQ(results_[1], Alone(1, 50));
}

TEST_F(DraftTest, ModelThatCannotDraftIsAskedOnce) {
  Start(Drafted(2));
  ASSERT_TRUE(AddDrafted(1, {1, 2, 3}, 50).ok());
  PlanAndAsk(), FinishStep(), PlanAndAsk();
  ASSERT_EQ(asked_.size(), 1u);
  Answer(1.0, /*most=*/0);
  RunToEnd();
  EXPECT_THAT(scheduler_->TakeDraftRequests(), IsEmpty());
  EXPECT_EQ(results_[1], Alone(1, 50));
}

TEST_F(DraftTest, StepsOfOneTokenHaveNoRoomForGuesses) {
  SchedulerConfig config = Drafted(1);
  config.max_step_tokens = 1;
  Start(config);
  ASSERT_TRUE(AddDrafted(1, {1, 2, 3}, 20).ok());
  ASSERT_TRUE(AddDrafted(2, {4, 5}, 20).ok());
  RunDrafted(1.0);
  EXPECT_EQ(results_[1], Alone(1, 20));
  EXPECT_EQ(results_[2], Alone(2, 20));
}

TEST_F(DraftTest, NothingIsAskedForWhoLostItsPages) {
  Start(Drafted(2));
  ASSERT_TRUE(AddDrafted(1, {1, 2, 3}, 50).ok());
  PlanAll(), FinishStep(), PlanAll();
  scheduler_->Halt(/*interruption=*/false);
  EXPECT_THAT(scheduler_->TakeDraftRequests(), IsEmpty());
}

TEST_F(DraftTest, NothingIsDraftedWhereThereIsRealWork) {
  Start(Drafted(1, /*pages=*/200));
  for (uint64_t id = 1; id <= 12; ++id) ASSERT_TRUE(AddDrafted(id, {1, 2, 3}, 30).ok());
  for (int i = 0; i < 20; ++i) PlanAndAsk(), FinishStep();
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(DraftTest, AnswersAreThoseWithoutDraftsWhateverHappens) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    random_.seed(seed);
    const auto pick = [this](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); };
    prompts_.clear(), results_.clear(), sent_.clear(), asked_.clear();
    SchedulerConfig config = Drafted(pick(1, 8), pick(10, 24));
    config.max_step_tokens = pick(8, 200);
    config.context = 150;
    Start(config);
    const double right = pick(0, 10) / 10.0;
    std::map<uint64_t, int32_t> lengths;
    for (uint64_t id = 1; id <= 5; ++id) {
      lengths[id] = pick(1, 80);
      ASSERT_TRUE(AddDrafted(id, Prompt(pick(0, 900), pick(1, 60)), lengths[id]).ok());
    }
    for (int i = 0; results_.size() < lengths.size(); ++i) {
      ASSERT_LT(i, 10000) << "stuck";
      PlanAndAsk();
      const int what = pick(0, 99);
      if (what == 0) {
        scheduler_->Halt(/*interruption=*/false);  // the pipeline is lost, with all that is in flight
        EXPECT_THAT(scheduler_->Reset(config), IsEmpty());
        cache_.emplace(config.page_tokens);
        sent_.clear();
      } else if (what < 40 && !asked_.empty()) {
        Answer(right, what < 3 ? 0 : 1000);
      } else if (scheduler_->oldest_in_flight() != nullptr) {
        FinishStep();
      } else {
        ASSERT_FALSE(asked_.empty());
        Answer(right);
      }
    }
    for (const auto& [id, most] : lengths) EXPECT_EQ(results_[id], Alone(id, most)) << "sequence " << id;
  }
}

}  // namespace
}  // namespace tandem::coordinator
