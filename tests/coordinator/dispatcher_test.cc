#include "coordinator/dispatcher.h"

#include <atomic>
#include <future>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/fake_pipeline.h"

namespace tandem::coordinator {
namespace {

using testing::Continue;
using ::testing::ElementsAre;
using testing::FakePipeline;
using ::testing::HasSubstr;
using testing::kFakeHidden;
using testing::kFakeVocab;
using testing::ManualClock;

// Collects what it is told; Wait returns when the generation has ended. Read the rest after that.
class Collector : public GenerationListener {
 public:
  explicit Collector(int stop_after = std::numeric_limits<int>::max()) : stop_after_(stop_after) {}
  bool OnToken(const engine::SampledToken& token) override {
    tokens.push_back(token.token);
    last = token;
    return static_cast<int>(tokens.size()) < stop_after_;
  }
  void OnLogits(int32_t position, std::span<const float> logits) override {
    positions.push_back(position);
    rows.push_back(logits[kFakeVocab - 1]);
  }
  void OnState(std::span<const float> state) override { rows.insert(rows.end(), state.begin(), state.end()); }
  void OnStateSum(int32_t position, std::span<const int64_t> sum) override {
    if (position == 0) state_sum = 0;
    positions.push_back(position);
    state_sum += sum[kFakeHidden - 1];
  }
  void OnFinished(const absl::Status& status, const GenerationResult& result) override {
    this->result = result;
    done_.set_value(status);
  }
  absl::Status Wait() { return done_.get_future().get(); }

  std::vector<int32_t> tokens, positions;
  std::vector<float> rows;
  int64_t state_sum = 0;
  engine::SampledToken last;
  GenerationResult result;

 private:
  const int stop_after_;
  std::promise<absl::Status> done_;
};

// Every token has the same text.
class FakeTokenizer : public engine::Tokenizer {
 public:
  FakeTokenizer() { vocab_size_ = kFakeVocab; }
  std::vector<engine::TokenId> Encode(absl::string_view, const engine::EncodeOptions&) const override { return {}; }
  std::string Piece(engine::TokenId, bool) const override { return "x"; }
  bool strips_leading_space() const override { return false; }
  absl::string_view Spelling(engine::TokenId) const override { return ""; }
};

GenerationTask Task(std::vector<int32_t> prompt, int32_t max_tokens) {
  GenerationTask task;
  task.prompt = std::move(prompt);
  task.max_tokens = max_tokens;
  return task;
}

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() {
    Dispatcher::Options options;
    options.vocab = kFakeVocab;
    options.hidden = kFakeHidden;
    options.max_waiting = 8;
    options.clock = &clock_;
    options.on_pipeline_broken = [this](uint64_t epoch, absl::Status why) {
      std::lock_guard<std::mutex> lock(broken_mutex_);
      broken_.emplace_back(epoch, why);
      broken_wake_.notify_all();
    };
    dispatcher_ = std::make_unique<Dispatcher>(std::move(options));
  }
  ~DispatcherTest() override {
    dispatcher_->Stop();
    pipelines_.clear();  // their threads answer to the dispatcher
  }

  FakePipeline& Attach(uint64_t epoch = 1, FakePipeline::Spoil spoil = nullptr, int32_t stages = 1) {
    PipelineSpec spec;
    spec.epoch = epoch;
    spec.num_stages = stages;
    spec.num_pages = 64;
    spec.page_tokens = 16;
    spec.max_step_tokens = 64;
    spec.context = 512;
    pipelines_.push_back(std::make_unique<FakePipeline>(
        16, [this](std::unique_ptr<v1::StepFrame> frame) { dispatcher_->OnFrame(std::move(frame)); },
        std::move(spoil)));
    dispatcher_->AttachPipeline(spec, pipelines_.back()->Link());
    return *pipelines_.back();
  }

  // Waits for the next pipeline that breaks: its epoch, and why.
  std::pair<uint64_t, absl::Status> NextBroken() {
    std::unique_lock<std::mutex> lock(broken_mutex_);
    broken_wake_.wait(lock, [this] { return !broken_.empty(); });
    auto next = broken_.front();
    broken_.pop_front();
    return next;
  }

  // Spoils the first answer and expects that the pipeline breaks with a message that has `expected` in it; the request
  // goes on, unharmed, on the next pipeline.
  void ExpectLieDetected(FakePipeline::Spoil spoil, const std::string& expected, GenerationTask task) {
    Collector collector;
    Attach(1, std::move(spoil));
    ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
    const auto [epoch, why] = NextBroken();
    EXPECT_EQ(epoch, 1u);
    EXPECT_THAT(std::string(why.message()), HasSubstr(expected));
    Attach(2);
    EXPECT_TRUE(collector.Wait().ok());
    EXPECT_EQ(collector.tokens, Continue(task.prompt, task.max_tokens));
  }

  ManualClock clock_;
  std::mutex broken_mutex_;
  std::condition_variable broken_wake_;
  std::deque<std::pair<uint64_t, absl::Status>> broken_;
  std::vector<std::unique_ptr<FakePipeline>> pipelines_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

TEST_F(DispatcherTest, GeneratesTheTokensOfTheModel) {
  Attach();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({5, 6, 7}, 20), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue({5, 6, 7}, 20));
  EXPECT_EQ(collector.result.reason, FinishReason::kLength);
  EXPECT_EQ(collector.result.prompt_tokens, 3);
  EXPECT_EQ(collector.result.generated_tokens, 20);
}

TEST_F(DispatcherTest, ManyClientsGetWhatEachGetsAlone) {
  Attach(1, nullptr, /*stages=*/3);
  std::vector<std::unique_ptr<Collector>> collectors;
  for (int i = 0; i < 8; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(dispatcher_->Submit(Task({i, 2 * i, 3}, 40 + i), collectors.back().get()).ok());
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(collectors[i]->Wait().ok());
    EXPECT_EQ(collectors[i]->tokens, Continue({i, 2 * i, 3}, 40 + i));
  }
}

TEST_F(DispatcherTest, ListenerEndsTheGeneration) {
  Attach();
  Collector collector(/*stop_after=*/3);
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 20), &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens.size(), 3u);
  EXPECT_EQ(collector.result.reason, FinishReason::kStop);
}

TEST_F(DispatcherTest, CancelEndsWithCancelledAndFreesThePages) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector cancelled, other;
  const auto id = dispatcher_->Submit(Task({1, 2}, 100), &cancelled);
  ASSERT_TRUE(id.ok());
  pipeline.WaitForFrames(1);
  dispatcher_->Cancel(*id);
  dispatcher_->Cancel(*id);
  EXPECT_EQ(cancelled.Wait().code(), absl::StatusCode::kCancelled);
  pipeline.Go();  // the result of the cancelled step is ignored
  ASSERT_TRUE(dispatcher_->Submit(Task({3}, 4), &other).ok());
  EXPECT_TRUE(other.Wait().ok());
  EXPECT_EQ(other.tokens, Continue({3}, 4));
  dispatcher_->Stop();
  EXPECT_EQ(dispatcher_->stats().kv_pages_used, 0);
  EXPECT_TRUE(cancelled.tokens.empty());
}

TEST_F(DispatcherTest, LogitsComeOncePerPositionEvenOverTwoPipelines) {
  int answers = 0;
  FakePipeline& first = Attach(1, [&answers](const v1::StepFrame&, v1::StepFrame* result) {
    if (++answers == 2) result->set_step(99);
  });
  first.Hold();
  GenerationTask task;
  task.output = engine::SliceOutput::kLogits;
  for (int i = 0; i < 150; ++i) task.prompt.push_back(i);
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  first.Go();
  NextBroken();
  Attach(2);
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.result.reason, FinishReason::kComplete);
  EXPECT_EQ(collector.positions, task.prompt) << "0, 1, ... each once";
  EXPECT_EQ(collector.rows, std::vector<float>(task.prompt.begin(), task.prompt.end()));
}

TEST_F(DispatcherTest, StateSumBeginsAnewOnTheNextPipeline) {
  int answers = 0;
  FakePipeline& first = Attach(1, [&answers](const v1::StepFrame&, v1::StepFrame* result) {
    if (++answers == 2) result->set_step(99);
  });
  first.Hold();
  GenerationTask task;
  task.output = engine::SliceOutput::kStateSum;
  for (int i = 0; i < 150; ++i) task.prompt.push_back(i);
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  first.Go();
  NextBroken();
  Attach(2);
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.result.reason, FinishReason::kComplete);
  EXPECT_EQ(collector.positions, (std::vector<int32_t>{0, 0, 64, 128}));
  EXPECT_EQ(collector.state_sum, int64_t{149 * 150 / 2} << engine::kStateSumBits);
}

TEST_F(DispatcherTest, FirstAndLastStateComeOnce) {
  Attach();
  GenerationTask task;
  for (int i = 0; i < 150; ++i) task.prompt.push_back(500 + i);
  for (engine::SliceOutput output : {engine::SliceOutput::kFirstState, engine::SliceOutput::kLastState}) {
    task.output = output;
    Collector collector;
    ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
    EXPECT_TRUE(collector.Wait().ok());
    EXPECT_EQ(collector.rows,
              std::vector<float>(kFakeHidden, output == engine::SliceOutput::kFirstState ? 500.0f : 649.0f));
  }
}

TEST_F(DispatcherTest, StatesThatLieBreakThePipeline) {
  const auto expect = [&](uint64_t epoch, engine::SliceOutput output, FakePipeline::Spoil spoil,
                          const std::string& message) {
    Attach(epoch, std::move(spoil));
    GenerationTask task = Task({1}, 1);
    task.output = output;
    Collector collector;
    const auto id = dispatcher_->Submit(task, &collector);
    ASSERT_TRUE(id.ok());
    EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr(message));
    dispatcher_->Cancel(*id);
    EXPECT_TRUE(absl::IsCancelled(collector.Wait()));
  };
  expect(
      1, engine::SliceOutput::kLastState, [](auto&, v1::StepFrame* r) { r->mutable_results(0)->set_state("abc"); },
      "3 bytes of state instead of 16");
  expect(
      2, engine::SliceOutput::kFirstState,
      [](auto&, v1::StepFrame* r) { r->mutable_results(0)->set_state(std::string(16, '\xff')); }, "nan");
  expect(
      3, engine::SliceOutput::kStateSum, [](auto&, v1::StepFrame* r) { r->mutable_results(0)->clear_state_sum(); },
      "0 bytes of state_sum instead of 32");
  expect(
      4, engine::SliceOutput::kStateSum,
      [](auto&, v1::StepFrame* r) { r->mutable_results(0)->set_state_sum(std::string(32, '\x7f')); },
      "a sum of 1 states is 9187201950435737471");
}

TEST_F(DispatcherTest, LogprobsArePassedOn) {
  Attach();
  GenerationTask task = Task({1}, 1);
  task.sampling.set_top_logprobs(2);
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.last.logprob, -0.5f);
  ASSERT_EQ(collector.last.top.size(), 2u);
  EXPECT_EQ(collector.last.top[1].token, 1);
}

TEST_F(DispatcherTest, SlicesCarrySamplingAndRecentTokens) {
  v1::Slice seen;
  std::vector<std::vector<int32_t>> recents;
  Attach(1, [&](const v1::StepFrame& request, v1::StepFrame*) {
    seen = request.slices(0);
    recents.emplace_back(seen.recent().begin(), seen.recent().end());
  });
  GenerationTask task = Task({1, 2, 3}, 3);
  task.sampling.set_temperature(0.5f);
  task.sampling.set_seed(7);
  task.penalty_window = 4;
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  pipelines_.clear();
  EXPECT_EQ(seen.sampling().temperature(), 0.5f);
  EXPECT_EQ(seen.sampling().seed(), 7u);
  ASSERT_EQ(recents.size(), 3u);
  EXPECT_THAT(recents[0], ElementsAre(1, 2, 3));
  EXPECT_THAT(recents[1], ElementsAre(1, 2, 3, collector.tokens[0]));
  EXPECT_THAT(recents[2], ElementsAre(2, 3, collector.tokens[0], collector.tokens[1]));
}

TEST_F(DispatcherTest, MirostatsMuComesBackAndGoesOutWithTheNextDraw) {
  std::vector<float> sent;
  Attach(1, [&](const v1::StepFrame& request, v1::StepFrame* result) {
    sent.push_back(request.slices(0).mirostat_mu());
    result->mutable_results(0)->set_mirostat_mu(static_cast<float>(sent.size()));
  });
  GenerationTask task = Task({1, 2, 3}, 3);
  task.sampling.set_mirostat(2);
  const FakeTokenizer tokenizer;
  task.guide = std::make_shared<DrawGuide>(tokenizer, DrawGuide::Options{.mirostat_tau = 4.0f}, task.prompt);
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  pipelines_.clear();
  EXPECT_THAT(sent, ElementsAre(8.0f, 1.0f, 2.0f)) << "twice tau at first";
}

TEST_F(DispatcherTest, MissingOrWildMuBreaksThePipeline) {
  GenerationTask task = Task({1, 2}, 5);
  task.sampling.set_mirostat(2);
  Collector collector;
  Attach(1);
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("left out mirostat_mu"));
  Attach(2, [](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_mirostat_mu(1e9f); });
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("mirostat_mu is 1e+09"));
  dispatcher_->Stop();  // the request still waits, and the collector must outlive it
}

TEST_F(DispatcherTest, DryPenaltiesFollowTheTokens) {
  std::vector<v1::Slice> sent;
  Attach(1, [&](const v1::StepFrame& request, v1::StepFrame* result) {
    sent.push_back(request.slices(0));
    result->mutable_results(0)->set_token(sent.size() == 1 ? 5 : 6);
  });
  GenerationTask task = Task({5, 6, 9, 4}, 3);
  const FakeTokenizer tokenizer;
  task.guide = std::make_shared<DrawGuide>(tokenizer, DrawGuide::Options{.dry = engine::DryParams{.multiplier = 1.0f}},
                                           task.prompt);
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  pipelines_.clear();
  ASSERT_EQ(sent.size(), 3u);
  EXPECT_EQ(sent[0].dry_size(), 0);
  EXPECT_EQ(sent[1].dry_size(), 0) << "one token is no repetition";
  ASSERT_EQ(sent[2].dry_size(), 1) << "5 6 came before, and 9 followed";
  EXPECT_EQ(sent[2].dry(0).token(), 9u);
  EXPECT_EQ(sent[2].dry(0).penalty(), 1.0f);
}

// A vocabulary where tokens 10 to 35 are the letters a to z, and the rest says nothing.
std::shared_ptr<DrawGuide> Constrained(const engine::Tokenizer& tokenizer, const std::string& grammar,
                                       DrawGuide::Options options = {}) {
  std::vector<std::string> texts(kFakeVocab);
  for (int i = 0; i < 26; ++i) texts[10 + i] = std::string(1, static_cast<char>('a' + i));
  auto compiled =
      engine::grammar::Grammar::FromGbnf(grammar, std::make_shared<engine::grammar::TokenTrie>(std::move(texts)));
  options.matcher = *engine::grammar::Matcher::Create(*compiled, false);
  return std::make_shared<DrawGuide>(tokenizer, std::move(options), std::vector<int32_t>{});
}

TEST_F(DispatcherTest, ConstrainedRequestsCarryTheirMaskAndEndWhenTheTextIsWhole) {
  std::vector<std::vector<uint32_t>> sent;
  const std::vector<uint32_t> script = {10, 11, 11};
  Attach(1, [&](const v1::StepFrame& request, v1::StepFrame* result) {
    const auto& ids = request.slices(0).allowed().only().ids();
    sent.emplace_back(ids.begin(), ids.end());
    result->mutable_results(0)->set_token(script[sent.size() - 1]);
  });
  const FakeTokenizer tokenizer;
  GenerationTask task = Task({1}, 20);
  task.stop_ids = {2};
  task.guide = Constrained(tokenizer, "root ::= \"a\" \"b\"{1,2}", {.end_tokens = {2}});
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  dispatcher_->Stop();
  pipelines_.clear();
  EXPECT_EQ(collector.result.reason, FinishReason::kStop) << "nothing can follow";
  EXPECT_THAT(collector.tokens, ElementsAre(10, 11, 11));
  ASSERT_EQ(sent.size(), 3u);
  EXPECT_THAT(sent[0], ElementsAre(10u));
  EXPECT_THAT(sent[1], ElementsAre(11u));
  EXPECT_THAT(sent[2], ElementsAre(2u, 11u)) << "the end is allowed where the text may end";
}

TEST_F(DispatcherTest, AConstraintThatAllowsNothingMoreSaysSo) {
  Attach(1, [](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_token(10); });
  const FakeTokenizer tokenizer;
  GenerationTask task = Task({1}, 20);
  task.guide = Constrained(tokenizer, "root ::= \"a\" \"b\"", {.banned = {11}});
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.result.reason, FinishReason::kConstraint);
  EXPECT_THAT(collector.tokens, ElementsAre(10));
}

TEST_F(DispatcherTest, ATokenThatWasNotAllowedBreaksThePipelineAndTheTextGoesOnElsewhere) {
  std::atomic<bool> lie = true;
  const FakePipeline::Spoil draw = [&](const v1::StepFrame& request, v1::StepFrame* result) {
    const bool second = request.slices(0).position() + static_cast<uint32_t>(request.slices(0).tokens_size()) == 2;
    result->mutable_results(0)->set_token(second ? (lie ? 12 : 11) : 10);
  };
  Attach(1, draw);
  const FakeTokenizer tokenizer;
  GenerationTask task = Task({1}, 20);
  task.guide = Constrained(tokenizer, "root ::= \"a\" \"b\"");
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("drew token 12, which was not allowed"));
  lie = false;
  Attach(2, draw);
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_THAT(collector.tokens, ElementsAre(10, 11));
}

TEST(TokenSetTest, TakesTheShortestForm) {
  const auto set = [](int count) {
    engine::grammar::TokenMask mask(16, 0);
    for (int i = 0; i < count; ++i) mask[static_cast<size_t>(i) / 64] |= uint64_t{1} << (i % 64);
    return ToTokenSet(mask, 1000);
  };
  EXPECT_EQ(set(3).only().ids_size(), 3);
  EXPECT_EQ(set(500).bits().size(), 125u);
  EXPECT_EQ(set(990).all_but().ids_size(), 10);
  EXPECT_EQ(set(990).all_but().ids(0), 990u);
}

TEST_F(DispatcherTest, WrongStepBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->set_step(7); }, "step 1 was due", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, MissingResultBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->clear_results(); }, "no result for sequence",
                    Task({1, 2}, 5));
}

TEST_F(DispatcherTest, ResultThatWasNotAskedForBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->add_results()->set_sequence(1); }, "2 results",
                    Task({1, 2}, 5));
}

TEST_F(DispatcherTest, ForeignSequenceBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_sequence(77); },
                    "sequence 77 where 1 was due", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, TokenOutOfRangeBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_token(kFakeVocab); },
                    "token 1000 of a vocabulary of 1000", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, TimingOfAnImpossibleStageBreaksThePipeline) {
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_timings(0)->set_stage(1); }, "stage 1 of 1",
                    Task({1, 2}, 5));
}

TEST_F(DispatcherTest, LogprobThatIsNoNumberBreaksThePipeline) {
  GenerationTask task = Task({1, 2}, 5);
  task.sampling.set_top_logprobs(0);
  ExpectLieDetected(
      [](auto&, v1::StepFrame* result) {
        result->mutable_results(0)->set_logprob(std::numeric_limits<float>::quiet_NaN());
      },
      "not a number", task);
}

TEST_F(DispatcherTest, MissingLogprobBreaksThePipeline) {
  GenerationTask task = Task({1, 2}, 5);
  task.sampling.set_top_logprobs(0);
  ExpectLieDetected([](auto&, v1::StepFrame* result) { result->mutable_results(0)->clear_logprob(); },
                    "left out the log-probabilities", task);
}

TEST_F(DispatcherTest, FailedStepBreaksThePipelineWithItsMessage) {
  ExpectLieDetected(
      [](auto&, v1::StepFrame* result) {
        result->mutable_failure()->set_stage(2);
        result->mutable_failure()->set_code(13);
        result->mutable_failure()->set_message("NaN in the output");
      },
      "stage 2 failed: NaN in the output", Task({1, 2}, 5));
}

TEST_F(DispatcherTest, LogitsOfTheWrongSizeBreakThePipeline) {
  Attach(1, [](auto&, v1::StepFrame* result) { result->mutable_results(0)->set_logits("abc"); });
  GenerationTask task = Task({1}, 1);
  task.output = engine::SliceOutput::kLogits;
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(task, &collector).ok());
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("3 bytes of logits"));
  dispatcher_->Stop();
  EXPECT_EQ(collector.Wait().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, BrokenLinkIsReported) {
  Attach().BreakLink();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
  EXPECT_EQ(NextBroken().second.message(), "the fake link is broken");
  EXPECT_TRUE(pipelines_[0]->closed());
  Attach(2);
  EXPECT_TRUE(collector.Wait().ok());
}

TEST_F(DispatcherTest, FramesOfOtherEpochsAreDropped) {
  FakePipeline& pipeline = Attach(5);
  pipeline.Hold();
  Collector collector;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
  pipeline.WaitForFrames(1);
  auto stale = std::make_unique<v1::StepFrame>();
  stale->set_epoch(4);
  stale->set_step(1);
  dispatcher_->OnFrame(std::move(stale));
  pipeline.Go();
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue({1}, 3));
}

TEST_F(DispatcherTest, FrameWithoutAStepInFlightBreaksThePipeline) {
  Attach(1);
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(1);
  frame->set_step(1);
  dispatcher_->OnFrame(std::move(frame));
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("no step is in flight"));
}

TEST_F(DispatcherTest, WithoutAnyPipelineRequestsAreRefused) {
  Collector collector;
  EXPECT_EQ(dispatcher_->Submit(Task({1}, 3), &collector).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, RequestsWaitForTheNextPipelineUpToALimit) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector patient, late;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &patient).ok());
  pipeline.WaitForFrames(1);
  dispatcher_->DetachPipeline(absl::UnavailableError("worker b is gone"));
  clock_.Advance(std::chrono::seconds(29));
  ASSERT_TRUE(dispatcher_->Submit(Task({2}, 3), &late).ok());
  Attach(2);
  EXPECT_TRUE(patient.Wait().ok());
  EXPECT_TRUE(late.Wait().ok());
  EXPECT_EQ(patient.tokens, Continue({1}, 3));
}

TEST_F(DispatcherTest, RequestsEndUnavailableWhenNoPipelineComes) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector waiting, refused;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &waiting).ok());
  pipeline.WaitForFrames(1);
  dispatcher_->DetachPipeline(absl::UnavailableError("worker b is gone"));
  while (!pipeline.closed()) std::this_thread::yield();
  clock_.Advance(std::chrono::seconds(31));
  const absl::Status status = waiting.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker b is gone"));
  EXPECT_EQ(dispatcher_->Submit(Task({1}, 3), &refused).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, RequestThatKeepsBreakingPipelinesIsEnded) {
  Collector collector;
  for (uint64_t epoch = 1; epoch <= Dispatcher::kMaxInterruptions; ++epoch) {
    Attach(epoch, [](auto&, v1::StepFrame* result) { result->set_step(0); });
    if (epoch == 1) {
      ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
    }
    EXPECT_EQ(NextBroken().first, epoch);
  }
  const absl::Status status = collector.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("broke 3 times during this request"));
}

TEST_F(DispatcherTest, MovesToOtherPipelinesAreNoInterruptions) {
  Collector collector;
  for (uint64_t epoch = 1; epoch <= Dispatcher::kMaxInterruptions + 1; ++epoch) {
    FakePipeline& pipeline = Attach(epoch);
    pipeline.Hold();
    if (epoch == 1) {
      ASSERT_TRUE(dispatcher_->Submit(Task({1}, 3), &collector).ok());
    }
    pipeline.WaitForFrames(1);
    dispatcher_->DetachPipeline(absl::CancelledError("layers move"));
  }
  Attach(99);
  EXPECT_TRUE(collector.Wait().ok());
  EXPECT_EQ(collector.tokens, Continue({1}, 3));
}

TEST_F(DispatcherTest, SubmitChecksTheTask) {
  Attach();
  Collector collector;
  const auto code = [&](GenerationTask task) {
    return dispatcher_->Submit(std::move(task), &collector).status().code();
  };
  EXPECT_EQ(code(Task({}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Task({1}, 0)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Task({kFakeVocab}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Task({-1}, 1)), absl::StatusCode::kInvalidArgument);
  const auto long_prompt = dispatcher_->Submit(Task(std::vector<int32_t>(600, 1), 1), &collector);
  EXPECT_EQ(long_prompt.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(long_prompt.status().message()), HasSubstr("600 tokens; the context of 512"));
}

TEST_F(DispatcherTest, FullQueueIsResourceExhausted) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  // 8 may wait; each needs half of the pages, so one runs (a second one would leave no page for growth).
  std::vector<std::unique_ptr<Collector>> collectors;
  int refused = 0;
  for (int i = 0; i < 12; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    const auto id = dispatcher_->Submit(Task(std::vector<int32_t>(500, i), 1), collectors.back().get());
    if (!id.ok()) {
      EXPECT_EQ(id.status().code(), absl::StatusCode::kResourceExhausted);
      collectors.pop_back();
      ++refused;
    }
  }
  pipeline.Go();
  for (auto& collector : collectors) {
    const absl::Status status = collector->Wait();
    if (status.ok()) continue;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    ++refused;
  }
  EXPECT_GE(refused, 3);
}

TEST_F(DispatcherTest, StopEndsEveryGeneration) {
  FakePipeline& pipeline = Attach();
  pipeline.Hold();
  Collector running, refused;
  ASSERT_TRUE(dispatcher_->Submit(Task({1}, 30), &running).ok());
  dispatcher_->Stop();
  dispatcher_->Stop();
  EXPECT_EQ(running.Wait().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(dispatcher_->Submit(Task({1}, 3), &refused).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(pipeline.closed());
}

}  // namespace
}  // namespace tandem::coordinator
