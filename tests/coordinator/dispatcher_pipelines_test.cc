// Several pipelines behind one dispatcher.
#include <set>

#include "tests/coordinator/dispatcher_fixture.h"

namespace tandem::coordinator {
namespace {

// Sequences in the frames that a pipeline executed. Thread-safe.
class Seen {
 public:
  FakePipeline::Spoil spoil() {
    return [this](const v1::StepFrame& request, v1::StepFrame*) {
      std::lock_guard<std::mutex> lock(mutex_);
      for (const v1::Slice& slice : request.slices()) sequences_.insert(slice.sequence());
    };
  }
  std::set<uint64_t> sequences() {
    std::lock_guard<std::mutex> lock(mutex_);
    return sequences_;
  }

 private:
  std::mutex mutex_;
  std::set<uint64_t> sequences_;
};

TEST_F(DispatcherTest, RequestsAreDealtOutToThePipelines) {
  Seen seen[2];
  FakePipeline& first = Attach(1, seen[0].spoil(), /*stages=*/1, /*held=*/true);
  FakePipeline& second = Attach(2, seen[1].spoil(), /*stages=*/1, /*held=*/true);
  std::vector<Collector> collectors(6);
  for (int32_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(dispatcher_->Submit(Task(Prompt(i, 40), 20), &collectors[i]).ok());
  }
  first.WaitForFrames(1);
  second.WaitForFrames(1);
  first.Go();
  second.Go();
  for (int32_t i = 0; i < 6; ++i) {
    EXPECT_TRUE(collectors[i].Wait().ok());
    EXPECT_EQ(collectors[i].tokens, Continue(Prompt(i, 40), 20));
  }
  EXPECT_EQ(seen[0].sequences(), (std::set<uint64_t>{1, 3, 5}));
  EXPECT_EQ(seen[1].sequences(), (std::set<uint64_t>{2, 4, 6}));
}

TEST_F(DispatcherTest, RequestsGoWhereTheirBeginningIsKnown) {
  Seen seen[2];
  Attach(1, seen[0].spoil());
  Attach(2, seen[1].spoil());
  const std::vector<int32_t> known = Prompt(3, 100);
  Collector before;
  ASSERT_TRUE(dispatcher_->Submit(Task(known, 5), &before).ok());
  EXPECT_TRUE(before.Wait().ok());
  const bool on_second = !seen[1].sequences().empty();
  for (int32_t i = 0; i < 5; ++i) {
    std::vector<int32_t> prompt = known;
    prompt.push_back(i);
    Collector next;
    ASSERT_TRUE(dispatcher_->Submit(Task(prompt, 5), &next).ok());
    EXPECT_TRUE(next.Wait().ok());
    EXPECT_EQ(next.result.cached_tokens, 96);  // whole pages of 16
    EXPECT_EQ(next.tokens, Continue(prompt, 5));
  }
  EXPECT_TRUE(seen[on_second ? 0 : 1].sequences().empty());
}

TEST_F(DispatcherTest, RequestsOfALostPipelineGoOnOnTheOther) {
  for (const bool broken : {false, true}) {
    SCOPED_TRACE(broken);
    Create({});
    Attach(1, broken ? FakePipeline::Spoil([](auto&, v1::StepFrame* result) { result->set_step(77); }) : nullptr,
           /*stages=*/1, /*held=*/true);
    FakePipeline& first = *pipelines_.back();
    FakePipeline& second = Attach(2, nullptr, /*stages=*/1, /*held=*/true);
    std::vector<Collector> collectors(4);
    for (int32_t i = 0; i < 4; ++i) {
      ASSERT_TRUE(dispatcher_->Submit(Task(Prompt(i, 40), 20), &collectors[i]).ok());
    }
    first.WaitForFrames(1);
    second.WaitForFrames(1);
    second.Go();
    if (broken) {
      first.Go();
      EXPECT_EQ(NextBroken().first, 1u);
    } else {
      dispatcher_->DetachPipeline(1, absl::UnavailableError("worker b is gone"));
    }
    for (int32_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(collectors[i].Wait().ok());
      EXPECT_EQ(collectors[i].tokens, Continue(Prompt(i, 40), 20));
    }
    dispatcher_->Stop();
    pipelines_.clear();
  }
}

TEST_F(DispatcherTest, AResultOfAnEpochThatIsGoneIsIgnored) {
  Collector collector;
  Attach(1, nullptr, /*stages=*/1, /*held=*/true);
  ASSERT_TRUE(dispatcher_->Submit(Task(Prompt(1, 40), 30), &collector).ok());
  pipelines_[0]->WaitForFrames(1);
  for (uint64_t epoch = 2; epoch < 8; ++epoch) {
    FakePipeline& next = Attach(epoch, nullptr, /*stages=*/1, /*held=*/true);
    dispatcher_->DetachPipeline(epoch - 1, absl::CancelledError("layers move"));
    next.WaitForFrames(1);
    pipelines_[pipelines_.size() - 2]->Go();  // its answer is of an epoch that is gone
  }
  pipelines_.back()->Go();
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue(Prompt(1, 40), 30));
}

TEST_F(DispatcherTest, APipelineThatComesTakesItsShare) {
  Seen seen;
  FakePipeline& first = Attach(1, nullptr, /*stages=*/1, /*held=*/true);
  std::vector<Collector> collectors(4);
  for (int32_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(dispatcher_->Submit(Task(Prompt(i, 40), 20), &collectors[i]).ok());
  }
  first.WaitForFrames(1);
  Attach(2, seen.spoil());
  EXPECT_TRUE(collectors[3].Wait().ok());
  first.Go();
  for (int32_t i = 0; i < 3; ++i) EXPECT_TRUE(collectors[i].Wait().ok());
  for (int32_t i = 0; i < 4; ++i) EXPECT_EQ(collectors[i].tokens, Continue(Prompt(i, 40), 20));
  EXPECT_EQ(seen.sequences().count(4), 1u);
}

// Two of these fit the pages of a pipeline.
TEST_F(DispatcherTest, RequestsThatWaitForPagesGoWhereThereAreSome) {
  FakePipeline& first = Attach(1, nullptr, /*stages=*/1, /*held=*/true);
  std::vector<Collector> collectors(4);
  for (int32_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(dispatcher_->Submit(Task(Prompt(i, 450), 20), &collectors[i]).ok());
  }
  first.WaitForFrames(2);
  Attach(2);
  EXPECT_TRUE(collectors[2].Wait().ok());
  EXPECT_TRUE(collectors[3].Wait().ok());
  first.Go();
  EXPECT_TRUE(collectors[0].Wait().ok());
  EXPECT_TRUE(collectors[1].Wait().ok());
  for (int32_t i = 0; i < 4; ++i) EXPECT_EQ(collectors[i].tokens, Continue(Prompt(i, 450), 20));
}

TEST_F(DispatcherTest, ALieEndsOnePipelineOnly) {
  Attach(1, nullptr, /*stages=*/1, /*held=*/true);
  FakePipeline& second = Attach(2, nullptr, /*stages=*/1, /*held=*/true);
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(1);
  frame->set_step(1);
  dispatcher_->OnFrame(std::move(frame));
  EXPECT_EQ(NextBroken().first, 1u);
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
  second.WaitForFrames(1);
  EXPECT_TRUE(pipelines_[0]->closed());
  EXPECT_FALSE(second.closed());
  second.Go();
  EXPECT_TRUE(collector.Wait().ok());
  const DispatcherStats stats = dispatcher_->stats();
  EXPECT_EQ(stats.epoch, 2u);
  EXPECT_EQ(stats.pipelines, 1);
  EXPECT_EQ(stats.kv_pages_total, 64);
}

}  // namespace
}  // namespace tandem::coordinator
