#include "coordinator/step_feed.h"

#include <mutex>

#include "tests/coordinator/dispatcher_fixture.h"

namespace tandem::coordinator {
namespace {

class Recorder : public StepWatcher {
 public:
  void OnTrace(const v1::StepTrace& trace) override {
    std::lock_guard<std::mutex> lock(mutex_);
    traces_.push_back(trace);
  }
  void OnFeedClosed() override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++closed_;
  }
  std::vector<v1::StepTrace> traces() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return traces_;
  }
  int closed() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return closed_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<v1::StepTrace> traces_;
  int closed_ = 0;
};

v1::StepTrace Trace(uint64_t step) {
  v1::StepTrace trace;
  trace.set_step(step);
  return trace;
}

TEST(TraceQueueTest, AFullQueueDropsTheNewestAndTheNextOneSaysHowMany) {
  TraceQueue queue;
  v1::StepTrace trace;
  EXPECT_FALSE(queue.Pop(&trace));
  for (uint64_t step = 1; step <= TraceQueue::kMaxQueued + 3; ++step) queue.Push(Trace(step));
  ASSERT_TRUE(queue.Pop(&trace));
  EXPECT_EQ(trace.step(), 1u);
  EXPECT_EQ(trace.lost(), 0u);
  queue.Push(Trace(5000));
  queue.Push(Trace(5001));  // full again
  for (uint64_t step = 2; step <= TraceQueue::kMaxQueued; ++step) {
    ASSERT_TRUE(queue.Pop(&trace));
    EXPECT_EQ(trace.step(), step);
    EXPECT_EQ(trace.lost(), 0u);
  }
  ASSERT_TRUE(queue.Pop(&trace));
  EXPECT_EQ(trace.step(), 5000u);
  EXPECT_EQ(trace.lost(), 3u);
  queue.Push(Trace(5002));
  ASSERT_TRUE(queue.Pop(&trace));
  EXPECT_EQ(trace.lost(), 1u);
  EXPECT_FALSE(queue.Pop(&trace));
}

TEST(StepFeedTest, AReportBecomesATraceInMicroseconds) {
  StepFeed feed;
  StepReport report;
  feed.OnStep(report);  // nobody watches
  auto watcher = std::make_shared<Recorder>();
  ASSERT_TRUE(feed.Add(watcher).ok());
  report.epoch = 7;
  report.step = 12;
  report.planned = Time() + std::chrono::microseconds(123456789);
  report.prefill_tokens = 64;
  report.decode_tokens = 3;
  report.stages = {{0.001, 0.010, 0.004}, {0.0000015, 0.020, 0.005}};
  report.first_wire_s = 0.003;
  report.round_trip_s = 0.0365;
  feed.OnStep(report);
  feed.Remove(watcher.get());
  feed.Remove(watcher.get());
  feed.OnStep(report);
  ASSERT_EQ(watcher->traces().size(), 1u);
  const v1::StepTrace trace = watcher->traces()[0];
  EXPECT_EQ(trace.epoch(), 7u);
  EXPECT_EQ(trace.step(), 12u);
  EXPECT_EQ(trace.planned_us(), 123456789u);
  EXPECT_EQ(trace.round_trip_us(), 36500u);
  EXPECT_EQ(trace.prefill_tokens(), 64u);
  EXPECT_EQ(trace.decode_tokens(), 3u);
  ASSERT_EQ(trace.stages_size(), 2);
  EXPECT_EQ(trace.stages(0).compute_us(), 10000u);
  EXPECT_EQ(trace.stages(1).stage(), 1u);
  EXPECT_EQ(trace.stages(1).queue_us(), 2u);
  EXPECT_EQ(trace.first_wire_us(), 3000u);
  EXPECT_EQ(trace.stages(0).wire_us(), 4000u) << "the hop behind it";
  EXPECT_EQ(trace.stages(1).wire_us(), 5000u);
}

TEST(StepFeedTest, OnlySoManyMayWatchAndNobodyAfterTheEnd) {
  StepFeed feed;
  std::vector<std::shared_ptr<Recorder>> watchers;
  for (size_t i = 0; i < StepFeed::kMaxWatchers; ++i) {
    watchers.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(feed.Add(watchers.back()).ok());
  }
  auto one_more = std::make_shared<Recorder>();
  const absl::Status full = feed.Add(one_more);
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), HasSubstr("16"));
  feed.Remove(watchers[0].get());
  EXPECT_TRUE(feed.Add(one_more).ok());
  feed.Close();
  EXPECT_EQ(one_more->closed(), 1);
  EXPECT_EQ(watchers[0]->closed(), 0);
  feed.Remove(one_more.get());
  EXPECT_TRUE(absl::IsUnavailable(feed.Add(one_more)));
}

// Passes steps on to a feed.
class FeedObserver : public DispatcherObserver {
 public:
  explicit FeedObserver(StepFeed& feed) : feed_(feed) {}
  void OnStep(const StepReport& report) override { feed_.OnStep(report); }
  void OnFirstToken(double) override {}
  void OnFinished(absl::StatusCode, const GenerationResult&) override {}

 private:
  StepFeed& feed_;
};

class StepReportTest : public DispatcherTest {};

TEST_F(StepReportTest, TellsPromptsFromAnswers) {
  StepFeed feed;
  FeedObserver observer(feed);
  auto watcher = std::make_shared<Recorder>();
  ASSERT_TRUE(feed.Add(watcher).ok());
  Dispatcher::Options options;
  options.vocab = kFakeVocab;
  options.hidden = kFakeHidden;
  options.clock = &clock_;
  options.observer = &observer;
  dispatcher_ = std::make_unique<Dispatcher>(std::move(options));
  Attach(/*epoch=*/3);  // 64 tokens a step
  Collector collector;
  std::vector<int32_t> prompt(100);
  ASSERT_TRUE(dispatcher_->Submit(Task(prompt, 4), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  uint32_t steps = 0, prefill = 0, decode = 0;
  for (const v1::StepTrace& trace : watcher->traces()) {
    EXPECT_EQ(trace.epoch(), 3u);
    EXPECT_EQ(trace.step(), ++steps);
    EXPECT_EQ(trace.stages_size(), 1);
    // One sequence: the prompt, then the answer. Its last token is drawn, never computed.
    EXPECT_TRUE(trace.prefill_tokens() == 0 || decode == 0) << trace.ShortDebugString();
    prefill += trace.prefill_tokens();
    decode += trace.decode_tokens();
  }
  EXPECT_EQ(prefill, 100u);
  EXPECT_EQ(decode, 3u);
}

}  // namespace
}  // namespace tandem::coordinator
