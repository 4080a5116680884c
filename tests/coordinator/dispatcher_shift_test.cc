// Generations that go on at the end of the context, on their way through the dispatcher.
#include "tests/coordinator/dispatcher_fixture.h"

namespace tandem::coordinator {
namespace {

// The fixture's pipelines have a context of 512.
GenerationTask ShiftTask(int32_t max_tokens) {
  GenerationTask task;
  for (int32_t i = 0; i < 500; ++i) task.prompt.push_back(i);
  task.max_tokens = max_tokens;
  task.shift = true;
  task.keep = 12;
  return task;
}

TEST_F(DispatcherTest, ShiftedGenerationCountsItsTokensAndShifts) {
  Attach();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(ShiftTask(600), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens.size(), 600u);
  EXPECT_EQ(collector.result.reason, FinishReason::kLength);
  EXPECT_EQ(collector.result.prompt_tokens, 500);
  EXPECT_EQ(collector.result.generated_tokens, 600);
  EXPECT_EQ(collector.result.shifts, 3) << "after 12 tokens, then every 250";
}

// The random numbers of a draw are a function of dropped + position: each draw has its own, and one that is made again
// on another pipeline has the same.
TEST_F(DispatcherTest, NoDrawAfterAShiftHasTheRandomNumbersOfAnother) {
  std::vector<uint64_t> places;  // of the draws, in the whole text
  const auto note = [&places](const v1::StepFrame& request) {
    const v1::Slice& slice = request.slices(0);
    if (slice.output() != v1::SLICE_OUTPUT_SAMPLE) return;
    places.push_back(slice.dropped() + slice.position() + static_cast<uint64_t>(slice.tokens_size()));
  };
  Attach(1, [&](const v1::StepFrame& request, v1::StepFrame* result) {
    note(request);
    if (places.size() == 100) result->set_step(9999);  // 88 draws behind the first shift the pipeline breaks
  });
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(ShiftTask(400), &collector).ok());
  NextBroken();
  Attach(2, [&](const v1::StepFrame& request, v1::StepFrame*) { note(request); });
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  pipelines_.clear();
  ASSERT_EQ(places.size(), 401u);
  std::vector<uint64_t> expected;
  for (uint64_t i = 0; i < 400; ++i) expected.push_back(500 + i);
  expected.insert(expected.begin() + 100, 599);  // again
  EXPECT_EQ(places, expected);
}

TEST_F(DispatcherTest, KeepBeyondHalfOfTheContextIsRefused) {
  Attach();
  Collector collector;
  GenerationTask task = ShiftTask(10);
  task.keep = 257;
  const absl::Status status = dispatcher_->Submit(task, &collector).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("keep is 257 tokens of the prompt, BOS included, expected 0 to 256"));
}

}  // namespace
}  // namespace tandem::coordinator
