// Drafts on their way through the dispatcher.
#include "tests/coordinator/dispatcher_fixture.h"

namespace tandem::coordinator {
namespace {

// Guesses right, at once, on the dispatch thread; or keeps what it is asked until it stops.
class FakeDrafter : public Drafter {
 public:
  enum class Kind { kRight, kWrong, kOutside, kNothing, kSlow };
  FakeDrafter(Kind kind, std::vector<DraftTask>* asked) : kind_(kind), asked_(asked) {}

  void Draft(DraftTask task, Done done) override {
    asked_->push_back(task);
    if (kind_ == Kind::kSlow) return slow_.push_back(std::move(done));
    if (kind_ == Kind::kNothing) return done({});
    std::vector<int32_t> tokens = Continue(task.tokens, task.count);
    if (kind_ == Kind::kWrong) tokens[0] = (tokens[0] + 1) % kFakeVocab;
    if (kind_ == Kind::kOutside) tokens.back() = kFakeVocab;
    done(std::move(tokens));
  }
  void Stop() override {
    for (const Done& done : std::exchange(slow_, {})) done({});
  }

 private:
  const Kind kind_;
  std::vector<DraftTask>* const asked_;
  std::vector<Done> slow_;
};

class DispatcherSpeculationTest : public DispatcherTest {
 protected:
  void CreateDrafted(FakeDrafter::Kind kind) {
    Dispatcher::Options options;
    options.max_guessed_tokens = 16;
    options.drafter = std::make_unique<FakeDrafter>(kind, &asked_);
    Create(std::move(options));
  }
  ~DispatcherSpeculationTest() override { dispatcher_->Stop(); }  // before asked_ is gone

  std::vector<DraftTask> asked_;  // the dispatch thread's; read it after Stop
};

TEST_F(DispatcherSpeculationTest, DraftsChangeNoAnswer) {
  using Kind = FakeDrafter::Kind;
  uint64_t epoch = 0;
  for (const Kind kind : {Kind::kRight, Kind::kWrong, Kind::kOutside, Kind::kNothing, Kind::kSlow}) {
    SCOPED_TRACE(static_cast<int>(kind));
    CreateDrafted(kind);
    Attach(++epoch, nullptr, /*stages=*/3);
    Collector collector;
    ASSERT_TRUE(dispatcher_->Submit(Task({1, 2, 3}, 60), &collector).ok());
    EXPECT_TRUE(collector.Wait().ok());
    EXPECT_EQ(collector.tokens, Continue({1, 2, 3}, 60));
    EXPECT_EQ(collector.result.right_guesses > 20, kind == Kind::kRight || kind == Kind::kOutside);
    dispatcher_->Stop();
    EXPECT_FALSE(asked_.empty());
    EXPECT_EQ(asked_.size() == 1, kind == Kind::kNothing || kind == Kind::kSlow);
    asked_.clear();
  }
}

TEST_F(DispatcherSpeculationTest, DraftIsDrawnLikeTheSequence) {
  CreateDrafted(FakeDrafter::Kind::kNothing);
  Attach();
  GenerationTask task = Task({1, 2, 3}, 4);
  task.sampling.set_seed(42);
  task.sampling.set_temperature(0.5f);
  task.penalty_window = 7;
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0].sampling.seed(), 42u);
  EXPECT_EQ(asked_[0].sampling.temperature(), 0.5f);
  EXPECT_EQ(asked_[0].penalty_window, 7);
  const std::vector<int32_t> first = Continue({1, 2, 3}, 1);
  EXPECT_EQ(asked_[0].tokens, (std::vector<int32_t>{1, 2, 3, first[0]}));
}

// A draft knows its place in the whole text, so it has the random numbers of the draws that it guesses.
TEST_F(DispatcherSpeculationTest, DraftBehindAShiftKnowsWhatWasLeftOut) {
  CreateDrafted(FakeDrafter::Kind::kRight);
  Attach();
  GenerationTask task = Task(Prompt(1, 500), 60);
  task.shift = true;
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  EXPECT_EQ(collector.result.shifts, 1);
  EXPECT_EQ(asked_.front().left_out, 0);
  EXPECT_EQ(asked_.back().left_out, 256) << "half of the context";
  for (const DraftTask& each : asked_) {
    EXPECT_EQ(each.left_out > 0, each.tokens.size() < 500);
    EXPECT_LE(each.left_out + static_cast<int64_t>(each.tokens.size()), 560);
  }
}

TEST_F(DispatcherSpeculationTest, ThePlaceOfADrawCountsWhatWasLeftOut) {
  std::vector<uint64_t> dropped;
  Attach(1,
         [&dropped](const v1::StepFrame& request, v1::StepFrame*) { dropped.push_back(request.slices(0).dropped()); });
  GenerationTask task = Task({1, 2, 3}, 2);
  task.left_out = 1000;
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  pipelines_.clear();
  EXPECT_EQ(dropped, (std::vector<uint64_t>{1000, 1000}));
}

TEST_F(DispatcherSpeculationTest, LastTokenIsNotGuessed) {
  CreateDrafted(FakeDrafter::Kind::kRight);
  Attach();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({1, 2, 3}, 4), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  for (const DraftTask& task : asked_) EXPECT_LT(task.tokens.size() + task.count, 7u);
}

}  // namespace
}  // namespace tandem::coordinator
