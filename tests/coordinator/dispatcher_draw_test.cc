// What a draw depends on, on its way through the dispatcher: sampling parameters, history, mirostat's mu, DRY,
// constraints.
#include "tests/coordinator/dispatcher_fixture.h"

namespace tandem::coordinator {
namespace {

using ::testing::ElementsAre;

// Every token has the same text.
class FakeTokenizer : public engine::Tokenizer {
 public:
  FakeTokenizer() { vocab_size_ = kFakeVocab; }
  std::vector<engine::TokenId> Encode(absl::string_view, const engine::EncodeOptions&) const override { return {}; }
  std::string Piece(engine::TokenId, bool) const override { return "x"; }
  bool strips_leading_space() const override { return false; }
  absl::string_view Spelling(engine::TokenId) const override { return ""; }
};

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
    result->mutable_results(0)->mutable_draws(0)->set_mirostat_mu(static_cast<float>(sent.size()));
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
  Attach(2, [](auto&, v1::StepFrame* result) { result->mutable_results(0)->mutable_draws(0)->set_mirostat_mu(1e9f); });
  EXPECT_THAT(std::string(NextBroken().second.message()), HasSubstr("mirostat_mu is 1e+09"));
  dispatcher_->Stop();  // the request still waits, and the collector must outlive it
}

TEST_F(DispatcherTest, DryPenaltiesFollowTheTokens) {
  std::vector<v1::Slice> sent;
  Attach(1, [&](const v1::StepFrame& request, v1::StepFrame* result) {
    sent.push_back(request.slices(0));
    result->mutable_results(0)->mutable_draws(0)->set_token(sent.size() == 1 ? 5 : 6);
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
    result->mutable_results(0)->mutable_draws(0)->set_token(script[sent.size() - 1]);
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
  Attach(1, [](auto&, v1::StepFrame* result) { result->mutable_results(0)->mutable_draws(0)->set_token(10); });
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
    result->mutable_results(0)->mutable_draws(0)->set_token(second ? (lie ? 12 : 11) : 10);
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

}  // namespace
}  // namespace tandem::coordinator
