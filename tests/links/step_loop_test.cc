// The step loop with a stage that only looks at what it is given, and with a real one. ThreadSanitizer runs over this
// file: waiting is by engine/base/mutex.h and std::latch, which it understands.
#include "links/step_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <latch>
#include <utility>

#include "engine/base/mutex.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::links {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kHidden = 4;
constexpr int kVocab = 100;

engine::ModelSpec SmallSpec() {
  engine::ModelSpec spec;
  spec.hidden = kHidden;
  spec.vocab = kVocab;
  return spec;
}

// Adds one to every hidden value; its logits and tokens are the positions. Token 66 makes it fail.
class FakeStage : public engine::Stage {
 public:
  FakeStage(bool first, bool last) : first_(first), last_(last) {}

  absl::Status Run(const engine::Step& step, engine::StepResult* result) override {
    if (before_run) before_run();
    *result = {};
    for (size_t i = 0; i < step.slices.size(); ++i) {
      const engine::Slice& slice = step.slices[i];
      if (slice.tokens[0] == 66) return absl::InternalError("token 66");
      if (!last_) continue;
      engine::SliceResult out;
      out.slice = static_cast<int32_t>(i);
      if (slice.output == engine::SliceOutput::kLogits) out.logits = {1.5f, -2.0f};
      if (slice.output == engine::SliceOutput::kSample) out.sampled = {{slice.position, -0.5f, {{7, -0.25f}, {8, -4}}}};
      if (slice.output != engine::SliceOutput::kNone) result->results.push_back(out);
    }
    if (last_) return absl::OkStatus();
    size_t tokens = 0;
    for (const engine::Slice& slice : step.slices) tokens += slice.tokens.size();
    result->hidden.assign(tokens * kHidden, 1.0f);
    for (size_t i = 0; i < step.hidden.size(); ++i) result->hidden[i] += step.hidden[i];
    return absl::OkStatus();
  }
  const engine::StageOptions& options() const override { return options_; }
  bool is_first() const override { return first_; }
  bool is_last() const override { return last_; }
  engine::StageMemory memory() const override { return {.weights = 1, .kv = 2, .scratch = 3}; }

  std::function<void()> before_run;

 private:
  const bool first_, last_;
  const engine::StageOptions options_;
};

// Frames that left the last loop.
class Outbox {
 public:
  std::unique_ptr<links::StepLink> Link() {
    return links::MakeInMemoryLink([this](std::unique_ptr<v1::StepFrame> frame) {
      MutexLock lock(&mu_);
      frames_.push_back(std::move(frame));
      changed_.NotifyAll();
    });
  }
  // Waits until `count` frames are there. The test's own time limit ends a wait that never ends.
  void Wait(size_t count) {
    MutexLock lock(&mu_);
    while (frames_.size() < count) changed_.Wait(&mu_);
  }
  const v1::StepFrame& frame(size_t i) {
    MutexLock lock(&mu_);
    return *frames_.at(i);
  }
  size_t size() {
    MutexLock lock(&mu_);
    return frames_.size();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<std::unique_ptr<v1::StepFrame>> frames_ ABSL_GUARDED_BY(mu_);
};

std::unique_ptr<v1::StepFrame> MakeFrame(uint64_t step, v1::SliceOutput output, uint32_t token = 1) {
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(1);
  frame->set_step(step);
  v1::Slice* slice = frame->add_slices();
  slice->set_sequence(40 + step);
  slice->set_position(static_cast<uint32_t>(step));
  slice->add_tokens(token);
  slice->add_pages(0);
  slice->set_output(output);
  return frame;
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(StepLoopTest, FramesRunThroughThreeStagesInOrder) {
  Outbox out;
  StepLoop last(std::make_unique<FakeStage>(false, true), SmallSpec(), 2, {});
  StepLoop middle(std::make_unique<FakeStage>(false, false), SmallSpec(), 1, {});
  StepLoop first(std::make_unique<FakeStage>(true, false), SmallSpec(), 0, {});
  last.Start(out.Link());
  middle.Start(links::MakeInMemoryLink([&](auto frame) { last.Post(std::move(frame)); }));
  first.Start(links::MakeInMemoryLink([&](auto frame) { middle.Post(std::move(frame)); }));
  constexpr uint64_t kSteps = links::kMaxUnacknowledged;
  for (uint64_t step = 1; step <= kSteps; ++step) first.Post(MakeFrame(step, v1::SLICE_OUTPUT_SAMPLE));
  out.Wait(kSteps);
  for (uint64_t i = 0; i < kSteps; ++i) {
    const v1::StepFrame& frame = out.frame(i);
    EXPECT_EQ(frame.step(), i + 1);
    EXPECT_EQ(frame.slices_size(), 0);
    EXPECT_TRUE(frame.activations().empty());
    EXPECT_FALSE(frame.has_failure());
    ASSERT_EQ(frame.timings_size(), 3);
    for (uint32_t stage = 0; stage < 3; ++stage) EXPECT_EQ(frame.timings(stage).stage(), stage);
    ASSERT_EQ(frame.results_size(), 1);
    EXPECT_EQ(frame.results(0).sequence(), 40 + i + 1);
    EXPECT_EQ(frame.results(0).draws(0).token(), i + 1);
  }
  first.Stop();
  middle.Stop();
  last.Stop();
}

TEST(StepLoopTest, MiddleStagePassesActivationsOn) {
  Outbox out;
  StepLoop loop(std::make_unique<FakeStage>(false, false), SmallSpec(), 1, {});
  loop.Start(out.Link());
  auto frame = MakeFrame(1, v1::SLICE_OUTPUT_NONE);
  const float hidden[kHidden] = {1, 2, 3, 4};
  frame->set_activations(hidden, sizeof(hidden));
  frame->set_activation_type(v1::ACTIVATION_TYPE_F32);
  loop.Post(std::move(frame));
  out.Wait(1);
  EXPECT_THAT(Floats(out.frame(0).activations()), ElementsAre(2, 3, 4, 5));
  EXPECT_EQ(out.frame(0).activation_type(), v1::ACTIVATION_TYPE_F32);
  EXPECT_EQ(out.frame(0).slices_size(), 1);
  EXPECT_EQ(out.frame(0).slices(0).sequence(), 41u);
}

TEST(StepLoopTest, ActivationsLeaveAsTheTypeThatWasAskedFor) {
  Outbox out;
  StepLoopOptions options;
  options.activations = engine::TensorType::kF16;
  StepLoop loop(std::make_unique<FakeStage>(true, false), SmallSpec(), 0, std::move(options));
  loop.Start(out.Link());
  loop.Post(MakeFrame(1, v1::SLICE_OUTPUT_NONE));
  out.Wait(1);
  EXPECT_EQ(out.frame(0).activation_type(), v1::ACTIVATION_TYPE_F16);
  EXPECT_EQ(out.frame(0).activations(), std::string("\0\x3c\0\x3c\0\x3c\0\x3c", 8)) << "four ones";
  EXPECT_EQ(loop.SendAs(engine::TensorType::kQ8_0).code(), absl::StatusCode::kInvalidArgument) << "rows of 4";
  ASSERT_TRUE(loop.SendAs(engine::TensorType::kBF16).ok());
  loop.Post(MakeFrame(2, v1::SLICE_OUTPUT_NONE));
  out.Wait(2);
  EXPECT_EQ(out.frame(1).activation_type(), v1::ACTIVATION_TYPE_BF16);
  EXPECT_EQ(out.frame(1).activations(), std::string("\x80\x3f\x80\x3f\x80\x3f\x80\x3f", 8));
}

TEST(StepLoopTest, NarrowActivationsArriveAsFloats) {
  Outbox out;
  StepLoop loop(std::make_unique<FakeStage>(false, false), SmallSpec(), 1, {});
  loop.Start(out.Link());
  auto frame = MakeFrame(1, v1::SLICE_OUTPUT_NONE);
  frame->set_activations(std::string("\0\x3c\0\x3c\0\x3c\0\x3c", 8));
  frame->set_activation_type(v1::ACTIVATION_TYPE_F16);
  loop.Post(std::move(frame));
  auto wrong = MakeFrame(2, v1::SLICE_OUTPUT_NONE);
  wrong->set_activations(std::string(8, '\0'));
  wrong->set_activation_type(v1::ACTIVATION_TYPE_F32);
  loop.Post(std::move(wrong));
  out.Wait(2);
  EXPECT_THAT(Floats(out.frame(0).activations()), ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(out.frame(1).failure().message(), HasSubstr("activations has 8 bytes, expected 16"));
}

TEST(StepLoopTest, LastStageReturnsWhatEachSliceAskedFor) {
  Outbox out;
  StepLoop loop(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, {});
  loop.Start(out.Link());
  auto frame = MakeFrame(5, v1::SLICE_OUTPUT_NONE);
  *frame->add_slices() = MakeFrame(6, v1::SLICE_OUTPUT_SAMPLE)->slices(0);
  *frame->add_slices() = MakeFrame(7, v1::SLICE_OUTPUT_LOGITS)->slices(0);
  *frame->add_slices() = MakeFrame(8, v1::SLICE_OUTPUT_SAMPLE)->slices(0);
  frame->mutable_slices(3)->mutable_sampling()->set_top_logprobs(2);
  loop.Post(std::move(frame));
  out.Wait(1);
  const v1::StepFrame& result = out.frame(0);
  ASSERT_EQ(result.results_size(), 3);
  EXPECT_EQ(result.results(0).sequence(), 46u);
  EXPECT_EQ(result.results(0).draws(0).token(), 6u);
  EXPECT_FALSE(result.results(0).draws(0).has_logprob());
  EXPECT_EQ(result.results(0).draws(0).top_size(), 0);
  EXPECT_EQ(result.results(1).sequence(), 47u);
  EXPECT_THAT(Floats(result.results(1).logits()), ElementsAre(1.5f, -2.0f));
  EXPECT_EQ(result.results(2).draws(0).token(), 8u);
  EXPECT_EQ(result.results(2).draws(0).logprob(), -0.5f);
  ASSERT_EQ(result.results(2).draws(0).top_size(), 2);
  EXPECT_EQ(result.results(2).draws(0).top(1).token(), 8u);
  EXPECT_EQ(result.results(2).draws(0).top(1).logprob(), -4.0f);
}

TEST(StepLoopTest, FailureOfTheStageTravelsWithTheFrame) {
  Outbox out;
  StepLoop last(std::make_unique<FakeStage>(false, true), SmallSpec(), 1, {});
  StepLoop first(std::make_unique<FakeStage>(true, false), SmallSpec(), 0, {});
  last.Start(out.Link());
  first.Start(links::MakeInMemoryLink([&](auto frame) { last.Post(std::move(frame)); }));
  first.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE, 66));
  first.Post(MakeFrame(2, v1::SLICE_OUTPUT_SAMPLE));
  out.Wait(2);
  const v1::StepFrame& failed = out.frame(0);
  EXPECT_EQ(failed.failure().stage(), 0u);
  EXPECT_EQ(failed.failure().code(), static_cast<int>(absl::StatusCode::kInternal));
  EXPECT_EQ(failed.failure().message(), "token 66");
  EXPECT_EQ(failed.timings_size(), 1);  // the last stage did not compute
  EXPECT_EQ(failed.results_size(), 0);
  EXPECT_TRUE(failed.activations().empty());
  EXPECT_FALSE(out.frame(1).has_failure());
  first.Stop();
}

TEST(StepLoopTest, FrameWithABadFieldBecomesAFailure) {
  Outbox out;
  StepLoop loop(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, {});
  loop.Start(out.Link());
  loop.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE, kVocab));
  out.Wait(1);
  EXPECT_EQ(out.frame(0).failure().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(out.frame(0).failure().message(), HasSubstr("tokens[0] is 100"));
  EXPECT_EQ(out.frame(0).slices_size(), 0);
}

TEST(StepLoopTest, FrameBeyondCapacityIsDroppedAndReportedOnce) {
  std::latch running(1), go(1);
  auto stage = std::make_unique<FakeStage>(true, true);
  stage->before_run = [&, entered = false]() mutable {
    if (!std::exchange(entered, true)) {
      running.count_down();
      go.wait();
    }
  };
  std::vector<absl::Status> failures;
  StepLoopOptions options;
  options.capacity = 2;
  options.on_failure = [&](absl::Status status) { failures.push_back(std::move(status)); };
  Outbox out;
  StepLoop loop(std::move(stage), SmallSpec(), 3, std::move(options));
  loop.Start(out.Link());
  loop.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE));
  running.wait();
  for (uint64_t step = 2; step <= 5; ++step) loop.Post(MakeFrame(step, v1::SLICE_OUTPUT_SAMPLE));
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(failures[0].message()), HasSubstr("stage 3 dropped step 4"));
  go.count_down();
  out.Wait(3);
  loop.Stop();
  EXPECT_EQ(out.size(), 3u);
}

TEST(StepLoopTest, FramesBeyondTheBytesThatMayWaitAreDropped) {
  std::vector<absl::Status> failures;
  StepLoopOptions options;
  options.capacity_bytes = MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE)->ByteSizeLong() * 2;
  options.on_failure = [&](absl::Status status) { failures.push_back(std::move(status)); };
  StepLoop loop(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, std::move(options));
  auto large = MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE);
  large->set_activations(std::string(1000, 'x'));
  loop.Post(std::move(large));
  EXPECT_TRUE(failures.empty()) << "the first one may be as large as it likes";
  loop.Post(MakeFrame(2, v1::SLICE_OUTPUT_SAMPLE));
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(failures[0].message()), HasSubstr("dropped step 2"));
}

TEST(StepLoopTest, LinkThatRefusesIsReportedOnce) {
  std::latch failed(1);
  std::vector<absl::Status> failures;
  StepLoopOptions options;
  options.on_failure = [&](absl::Status status) {
    failures.push_back(std::move(status));
    failed.count_down();
  };
  StepLoop loop(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, std::move(options));
  auto link = links::MakeInMemoryLink([](auto) {});
  link->Close();
  loop.Start(std::move(link));
  loop.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE));
  loop.Post(MakeFrame(2, v1::SLICE_OUTPUT_SAMPLE));
  failed.wait();
  loop.Stop();
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failures[0].message()), HasSubstr("lost step 1"));
}

TEST(StepLoopTest, FramesThatCameBeforeStartAreExecuted) {
  Outbox out;
  StepLoop loop(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, {});
  loop.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE));
  loop.Start(out.Link());
  out.Wait(1);
  EXPECT_EQ(out.frame(0).step(), 1u);
}

TEST(StepLoopTest, StopDropsWaitingFramesAndMayBeRepeated) {
  Outbox out;
  StepLoop never_started(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, {});
  never_started.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE));
  never_started.Stop();
  never_started.Stop();
  StepLoop loop(std::make_unique<FakeStage>(true, true), SmallSpec(), 0, {});
  loop.Start(out.Link());
  loop.Stop();
  loop.Stop();
  loop.Post(MakeFrame(1, v1::SLICE_OUTPUT_SAMPLE));
  EXPECT_EQ(out.size(), 0u);
}

TEST(StepLoopTest, ObserverSeesTheCostOfEachStep) {
  std::vector<StepCost> costs;
  StepLoopOptions options;
  options.observer = [&](const StepCost& cost) { costs.push_back(cost); };
  auto stage = std::make_unique<FakeStage>(true, false);
  stage->before_run = [begin = std::chrono::steady_clock::now()] {
    while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(2)) {
    }
  };
  Outbox out;
  StepLoop loop(std::move(stage), SmallSpec(), 0, std::move(options));
  auto frame = MakeFrame(1, v1::SLICE_OUTPUT_NONE);
  frame->mutable_slices(0)->add_tokens(2);
  const uint64_t bytes = frame->ByteSizeLong();
  loop.Post(std::move(frame));
  loop.Start(out.Link());
  out.Wait(1);
  loop.Stop();
  ASSERT_EQ(costs.size(), 1u);
  EXPECT_EQ(costs[0].tokens, 2);
  EXPECT_EQ(costs[0].bytes_in, bytes);
  EXPECT_EQ(costs[0].bytes_out, out.frame(0).ByteSizeLong());
  EXPECT_GT(costs[0].bytes_out, bytes + 2 * kHidden * sizeof(float));
  EXPECT_GE(costs[0].queue_s + costs[0].compute_s, 0.001);
  EXPECT_EQ(loop.memory().total(), 6u);
}

// A real model, cut in two: the logits are those of the stages driven by hand.
TEST(StepLoopTest, RealStagesGiveTheSameBitsAsWithoutLoops) {
  const tandem::testing::TinyFile tiny = tandem::testing::ParseTinyModel(tandem::testing::TinyModelShape{});
  const engine::ModelSpec spec = *engine::ReadModelSpec(*tiny.file);
  tandem::testing::StageRunnerOptions runner_options;
  runner_options.stages = 2;
  auto runner = tandem::testing::StageRunner::Create(*tiny.file, runner_options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const std::vector<int32_t> tokens = {1, 20, 30, 40, 50};
  const std::vector<float> expected = *(*runner)->Logits(tokens, 8);

  Outbox out;
  std::vector<std::unique_ptr<StepLoop>> loops;
  engine::FileTensorSource source(*tiny.file);
  for (int i = 0; i < 2; ++i) {
    engine::StageOptions options;
    options.first_layer = i;
    options.end_layer = i + 1;
    options.kv_type = runner_options.kv_type;
    options.page_tokens = 16;
    options.num_pages = 4;
    options.isa = runner_options.isa;
    options.threads = 1;
    options.pin_threads = false;
    auto stage = engine::Stage::Load(spec, *tiny.file, source, options, nullptr, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    loops.push_back(std::make_unique<StepLoop>(*std::move(stage), spec, i, StepLoopOptions{}));
  }
  loops[1]->Start(out.Link());
  loops[0]->Start(links::MakeInMemoryLink([&](auto frame) { loops[1]->Post(std::move(frame)); }));
  auto frame = std::make_unique<v1::StepFrame>();
  v1::Slice* slice = frame->add_slices();
  for (const int32_t token : tokens) slice->add_tokens(token);
  slice->add_pages(2);
  slice->set_output(v1::SLICE_OUTPUT_LOGITS);
  loops[0]->Post(std::move(frame));
  out.Wait(1);
  loops[0]->Stop();
  ASSERT_FALSE(out.frame(0).has_failure()) << out.frame(0).failure().message();
  EXPECT_EQ(Floats(out.frame(0).results(0).logits()), expected);
}

}  // namespace
}  // namespace tandem::links
