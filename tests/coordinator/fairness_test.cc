// Who is served when: shares of clients, priorities, patience, and how long anybody waits, in virtual time.
#include <random>

#include "coordinator/scheduler/fair_shares.h"
#include "coordinator/scheduler/retry_hint.h"
#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

TEST(FairSharesTest, NewcomersBeginLevelWithTheLeastServed) {
  FairShares shares;
  shares.Join("a");
  shares.Charge("a", 100);
  shares.Join("b");
  EXPECT_EQ(shares.served("b"), 100);
  shares.Charge("a", 50);
  shares.Join("c");
  EXPECT_EQ(shares.served("c"), 100);
  shares.Charge("b", 7);
  shares.Join("b");
  EXPECT_EQ(shares.served("b"), 107) << "known already";
  shares.Leave("b");
  EXPECT_EQ(shares.served("b"), 107);
  shares.Leave("b");
  shares.Charge("c", 1000);
  shares.Join("b");
  EXPECT_EQ(shares.served("b"), 150) << "nothing is saved up by leaving";
}

TEST(StepTimesTest, LearnsWhatDecodesAndTokensOfPrefillCost) {
  StepTimes times;
  EXPECT_EQ(times.PrefillWithin(1.0, 77), 77);
  EXPECT_EQ(times.wire_share(), 0);
  const std::vector<StageTime> decode = {{.compute_s = 0.02}, {.queue_s = 0.001, .compute_s = 0.01}};
  times.Observe(4, 0, decode, 0.035);
  EXPECT_NEAR(times.wire_share(), 0.004 / 0.02, 1e-9);
  times.Observe(4, 100, std::vector<StageTime>{{.compute_s = 0.12}, {.compute_s = 0.06}}, 0.2);
  EXPECT_EQ(times.PrefillWithin(0.1, 77), 80) << "1 ms each beside 20 ms";
  EXPECT_EQ(times.PrefillWithin(0.01, 77), 0);
  times.Observe(4, 0, {}, 9.0);
  EXPECT_EQ(times.PrefillWithin(0.1, 77), 80);
}

class FairnessTest : public SchedulerTest {
 protected:
  SequenceSpec For(const std::string& client, uint64_t id, int32_t prompt, int32_t most, int32_t priority = 0) {
    // No two begin alike.
    SequenceSpec spec = Spec(id, Prompt(static_cast<int32_t>(id * 131 % 1000), prompt), most);
    spec.client = client;
    spec.priority = priority;
    return spec;
  }
};

TEST_F(FairnessTest, ChunksKeepStagesNearTheTargetWhileOthersDecode) {
  SchedulerConfig config = Config(/*stages=*/2, /*pages=*/256);
  config.context = 4000;
  config.max_step_tokens = 2000;
  config.target_stage_s = 0.101;
  Start(config);
  prefill_token_s_ = 0.0005;
  ASSERT_TRUE(Add(For("a", 1, 20, 500)).ok());
  for (int i = 0; i < 20; ++i) PlanAll(), FinishStep();
  ASSERT_TRUE(Add(For("b", 2, 3500, 2)).ok());
  plans_.clear();
  for (int i = 0; i < 30; ++i) PlanAll(), FinishStep();
  int32_t largest = 0;
  for (size_t i = 3; i < plans_.size(); ++i) {  // the first ones are planned before a token's cost is known
    for (const PlannedSlice& slice : plans_[i].slices) largest = std::max(largest, slice.count);
  }
  EXPECT_GE(largest, 190);
  EXPECT_LE(largest, 200) << "0.1 s at 0.5 ms a token";
  RunToEnd();
}

TEST_F(FairnessTest, ClientsShareEquallyHoweverManyRequestsTheySend) {
  Start(Config(1, 24), /*max_waiting=*/1000);  // some five sequences at a time
  uint64_t id = 1;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Add(For("flood", id++, 40, 20)).ok());
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(Add(For("few", id++, 40, 20)).ok());
  RunToEnd();
  Time last_of_few, first_after;
  int floods_before = 0;
  for (uint64_t few = 101; few <= 110; ++few) last_of_few = std::max(last_of_few, ended_[few]);
  for (uint64_t flood = 1; flood <= 100; ++flood) floods_before += ended_[flood] <= last_of_few ? 1 : 0;
  EXPECT_LE(floods_before, 20) << "ten of the flood beside ten of the others, and those that ran before they came";
}

TEST_F(FairnessTest, HigherPriorityIsAdmittedFirstAndPreemptedLast) {
  Start(Config(1, 8));
  ASSERT_TRUE(Add(For("a", 1, 60, 60)).ok());
  ASSERT_TRUE(Add(For("a", 2, 60, 60)).ok());
  ASSERT_TRUE(Add(For("b", 3, 60, 60, /*priority=*/1)).ok());
  PlanAll();
  EXPECT_EQ(scheduler_->Find(3)->state, SequenceState::kRunning);
  EXPECT_EQ(scheduler_->Find(1)->state, SequenceState::kWaiting);
  RunToEnd();
  EXPECT_LT(ended_[3], ended_[1]);
  for (uint64_t id = 1; id <= 3; ++id) EXPECT_EQ(results_[id], testing::Continue(prompts_[id], 60));
}

TEST_F(FairnessTest, FullQueueSaysWhenToComeAgain) {
  Start(Config(1, 8), /*max_waiting=*/4);
  step_time_ = std::chrono::seconds(1);
  uint64_t id = 1;
  for (; id <= 4; ++id) ASSERT_TRUE(Add(For("a", id, 100, 2)).ok());  // one at a time, two steps each
  for (int i = 0; i < 6; ++i) PlanAll(), FinishStep();
  absl::Status refused;
  while (refused.ok()) refused = Add(For("a", id++, 100, 2)).status();
  const std::optional<int64_t> milliseconds = RetryMilliseconds(refused);
  ASSERT_TRUE(milliseconds.has_value()) << refused;
  EXPECT_GE(*milliseconds, 5 * 1000) << "four wait, and one every one or two seconds starts";
  EXPECT_LE(*milliseconds, 5 * 2000);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("requests wait already, the limit is 4: retry in about "));
  EXPECT_EQ(RetryMilliseconds(absl::ResourceExhaustedError("no memory")), std::nullopt);
}

TEST_F(FairnessTest, FullQueueMakesRoomForUrgentRequestsAndForOtherClients) {
  Start(Config(), /*max_waiting=*/3);
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(Add(For("a", id, 10, 5)).ok());
  EXPECT_EQ(Add(For("a", 4, 10, 5)).status().code(), absl::StatusCode::kResourceExhausted);
  const auto other = Add(For("b", 5, 10, 5));
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(*other, 3u) << "the youngest of the client of which most wait";
  scheduler_->Remove(3);
  EXPECT_FALSE(Add(For("b", 6, 10, 5)).ok()) << "each would have as many, or more";
  const auto urgent = Add(For("a", 7, 10, 5, /*priority=*/2));
  ASSERT_TRUE(urgent.ok());
  EXPECT_EQ(*urgent, 2u);
  scheduler_->Remove(2);
  RunToEnd();
}

// Ten minutes of overload by two clients, one of them urgent: whoever comes with a little work gets it done.
TEST_F(FairnessTest, NobodyStarves) {
  Start(Config(2, 100), /*max_waiting=*/60);
  step_time_ = std::chrono::milliseconds(100);
  std::mt19937 random(1);
  const auto pick = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  std::map<uint64_t, Time> came;
  uint64_t id = 1;
  int patient = 0;
  const Time end = now_ + std::chrono::minutes(10);
  while (now_ < end) {
    const auto offer = [&](const char* client, int32_t prompt, int32_t most, int32_t priority) {
      const uint64_t now_id = id++;
      const auto added = Add(For(client, now_id, prompt, most, priority));
      if (!added.ok()) return prompts_.erase(now_id), false;
      came[now_id] = now_;
      if (*added) scheduler_->Remove(**added), came.erase(**added), prompts_.erase(**added);
      return true;
    };
    offer("flood", pick(20, 200), pick(5, 40), 0);
    if (pick(0, 9) == 0) offer("urgent", pick(20, 200), pick(5, 40), 5);
    if (pick(0, 60) == 0) patient += offer("patient", pick(20, 200), pick(10, 30), 0) ? 1 : 0;
    if (pick(0, 60) == 0) patient += offer("humble", pick(20, 200), pick(10, 30), -5) ? 1 : 0;
    PlanAll();
    if (scheduler_->oldest_in_flight() != nullptr) FinishStep();
  }
  double longest = 0;
  int done = 0;
  for (const auto& [each, time] : came) {
    if (ended_.count(each) > 0) longest = std::max(longest, SecondsBetween(time, ended_[each])), ++done;
  }
  EXPECT_GT(patient, 80);
  EXPECT_GT(done, 500);
  EXPECT_LT(longest, 90);
  for (const auto& [each, time] : came) {
    if (ended_.count(each) > 0) continue;
    EXPECT_LT(SecondsBetween(time, now_), 90) << "sequence " << each << " still waits";
  }
}

}  // namespace
}  // namespace tandem::coordinator
