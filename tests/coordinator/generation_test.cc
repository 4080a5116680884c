#include "coordinator/gateway/generation.h"

#include <unistd.h>

#include <cstdio>
#include <future>
#include <limits>

#include "absl/strings/str_cat.h"
#include "coordinator/gateway/generation_request.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/fake_pipeline.h"
#include "tests/support/tiny_model.h"

namespace tandem::coordinator {
namespace {

using ::testing::ElementsAre;
using testing::FakePipeline;
using ::testing::HasSubstr;
using testing::kFakeVocab;

constexpr char kTemplate[] =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[answer]{% endif %}";

// The model's byte tokens.
int32_t Byte(char c) { return 3 + static_cast<unsigned char>(c); }
constexpr int32_t kEos = 2;

std::unique_ptr<ServedModel> OpenTiny(const std::string& chat_template) {
  tandem::testing::TinyModelShape shape;
  shape.vocab_size = kFakeVocab;
  tandem::testing::TinyModel tiny = tandem::testing::MakeTinyModel(shape);
  if (!chat_template.empty()) tiny.metadata["tokenizer.chat_template"] = chat_template;
  const std::string path = absl::StrCat(::testing::TempDir(), "/generation_test_", getpid(), ".gguf");
  EXPECT_TRUE(tiny.Write(path).ok());
  auto model = ServedModel::Open(path);
  std::remove(path.c_str());
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

TEST(ServedModelTest, NameIsThatOfTheFile) {
  EXPECT_THAT(OpenTiny("")->name(), HasSubstr("generation_test_"));
  EXPECT_THAT(OpenTiny("")->name(), ::testing::Not(HasSubstr("gguf")));
}

TEST(ServedModelTest, MissingFileIsNamed) {
  const auto model = ServedModel::Open("/nowhere/x.gguf");
  EXPECT_EQ(model.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(model.status().message()), HasSubstr("/nowhere/x.gguf"));
}

TEST(ServedModelTest, BrokenChatTemplateFailsOnlyChats) {
  const auto model = OpenTiny("{% for %}");
  EXPECT_EQ(model->chat_template(), nullptr);
  EXPECT_FALSE(model->chat_status().ok());
}

class PrepareRequestTest : public ::testing::Test {
 protected:
  PrepareRequestTest() : model_(OpenTiny(kTemplate)) { request_.set_prompt("Hi"); }

  void ExpectError(absl::StatusCode code, const std::string& message) {
    const auto prepared = PrepareRequest(request_, *model_);
    EXPECT_EQ(prepared.status().code(), code);
    EXPECT_THAT(std::string(prepared.status().message()), HasSubstr(message));
  }
  void ExpectInvalid(const std::string& message) { ExpectError(absl::StatusCode::kInvalidArgument, message); }

  const std::unique_ptr<ServedModel> model_;
  v1::GenerateRequest request_;
};

TEST_F(PrepareRequestTest, ClientAndPriorityAreTakenOverAndBounded) {
  request_.set_client("batch");
  request_.set_priority(-100);
  const auto prepared = PrepareRequest(request_, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->task.client, "batch");
  EXPECT_EQ(prepared->task.priority, -100);
  request_.set_priority(101);
  ExpectInvalid("priority is 101, expected -100 to 100");
  request_.set_priority(0);
  request_.set_client(std::string(257, 'x'));
  ExpectInvalid("client has 257 bytes, at most 256");
}

TEST_F(PrepareRequestTest, ShiftKeepsTheBosAndWhatIsAskedForOfThePrompt) {
  request_.set_at_context_end(v1::AT_CONTEXT_END_SHIFT);
  request_.set_max_tokens(7);
  const int32_t prompt = static_cast<int32_t>(model_->tokenizer().Encode("Hi", {.add_special = true}).size());
  ASSERT_GT(prompt, 2);
  for (const auto& [keep, kept] :
       {std::pair(0u, 1), std::pair(1u, 2), std::pair(1000u, prompt), std::pair(~0u, prompt)}) {
    request_.set_keep(keep);
    const auto prepared = PrepareRequest(request_, *model_);
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    EXPECT_TRUE(prepared->task.shift);
    EXPECT_EQ(prepared->task.keep, kept);
  }
  request_.clear_prompt();
  for (const uint32_t id : {10, 20, 30}) request_.mutable_ids()->add_ids(id);
  request_.set_keep(1);
  EXPECT_EQ(PrepareRequest(request_, *model_)->task.keep, 1) << "no BOS";
}

TEST_F(PrepareRequestTest, WhatSaysNothingAboutTheEndOfTheContextIsRefused) {
  EXPECT_FALSE(PrepareRequest(request_, *model_)->task.shift);
  request_.set_at_context_end(v1::AT_CONTEXT_END_SHIFT);
  ExpectInvalid("max_tokens must be set");
  request_.set_at_context_end(static_cast<v1::AtContextEnd>(3));
  ExpectInvalid("at_context_end is 3, expected 0 to 2");
  request_.set_at_context_end(v1::AT_CONTEXT_END_STOP);
  request_.set_keep(5);
  ExpectInvalid("keep is 5, which says nothing without at_context_end: SHIFT");
}

TEST_F(PrepareRequestTest, TakesAPrompt) {
  request_.mutable_sampling()->set_seed(5);
  request_.mutable_sampling()->set_presence_penalty(0.5f);
  request_.mutable_sampling()->set_penalty_window(33);
  request_.set_max_tokens(7);
  request_.set_model(model_->name());
  const auto prepared = PrepareRequest(request_, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  engine::EncodeOptions special;
  special.add_special = true;
  EXPECT_EQ(prepared->task.prompt, model_->tokenizer().Encode("Hi", special));
  EXPECT_EQ(prepared->seed, 5u);
  EXPECT_EQ(prepared->task.penalty_window, 33);
  EXPECT_EQ(prepared->task.max_tokens, 7);
  EXPECT_EQ(prepared->task.stop_ids, model_->tokenizer().end_of_generation());
  EXPECT_FALSE(prepared->at_text_start);
}

TEST_F(PrepareRequestTest, DefaultsLeaveTheRestToTheModel) {
  request_.set_ignore_end_of_turn(true);
  const auto prepared = PrepareRequest(request_, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->task.max_tokens, std::numeric_limits<int32_t>::max());
  EXPECT_EQ(prepared->task.penalty_window, 0);
  EXPECT_TRUE(prepared->task.stop_ids.empty());
  EXPECT_EQ(prepared->task.sampling.seed(), prepared->seed) << "a seed was picked";
  EXPECT_NE(PrepareRequest(request_, *model_)->seed, prepared->seed);
}

TEST_F(PrepareRequestTest, RendersAChat) {
  auto* message = request_.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("Hello");
  const auto prepared = PrepareRequest(request_, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(model_->tokenizer().Decode(prepared->task.prompt, true), "[user]Hello[answer]");
  EXPECT_TRUE(prepared->at_text_start);
}

TEST_F(PrepareRequestTest, TakesIdsAsTheyAre) {
  for (const uint32_t id : {1u, 999u, 5u}) request_.mutable_ids()->add_ids(id);
  EXPECT_THAT(PrepareRequest(request_, *model_)->task.prompt, ElementsAre(1, 999, 5));
}

TEST_F(PrepareRequestTest, UnknownModelNamesTheOneServed) {
  request_.set_model("gpt");
  ExpectError(absl::StatusCode::kNotFound, "no model \"gpt\" here; served is \"generation_test_");
}
TEST_F(PrepareRequestTest, NoInput) {
  request_.clear_prompt();
  ExpectInvalid("the request has no input");
}
TEST_F(PrepareRequestTest, EmptyInputs) {
  request_.set_prompt("");
  ExpectInvalid("prompt is empty");
  request_.mutable_ids();
  ExpectInvalid("ids is empty");
  request_.mutable_chat();
  ExpectInvalid("chat has no messages");
}
TEST_F(PrepareRequestTest, IdOutsideTheVocabulary) {
  request_.mutable_ids()->add_ids(1000);
  ExpectInvalid("1000 is outside the vocabulary of 1000");
  request_.mutable_ids()->set_ids(0, 0xffffffffu);
  ExpectInvalid("4294967295");
}
TEST_F(PrepareRequestTest, UnknownRole) {
  request_.mutable_chat()->add_messages()->set_role("boss");
  ExpectInvalid("role \"boss\"");
}
TEST_F(PrepareRequestTest, ChatWithoutATemplate) {
  request_.mutable_chat()->add_messages()->set_role("user");
  const auto prepared = PrepareRequest(request_, *OpenTiny(""));
  EXPECT_EQ(prepared.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(prepared.status().message()), HasSubstr("has no chat template"));
}
TEST_F(PrepareRequestTest, MaxTokensZero) {
  request_.set_max_tokens(0);
  ExpectInvalid("max_tokens is 0");
}
TEST_F(PrepareRequestTest, StopStringsOutOfBounds) {
  request_.add_stop("");
  ExpectInvalid("stop: a string of 0 bytes");
  request_.set_stop(0, std::string(257, 'x'));
  ExpectInvalid("stop: a string of 257 bytes");
  request_.set_stop(0, "x");
  for (int i = 0; i < 16; ++i) request_.add_stop("x");
  ExpectInvalid("stop: 17 strings, at most 16");
}
TEST_F(PrepareRequestTest, SamplingOutOfRange) {
  request_.mutable_sampling()->set_temperature(-1);
  ExpectInvalid("temperature");
}
TEST_F(PrepareRequestTest, BannedTextBecomesABanOfEveryTokenThatIsIt) {
  request_.add_banned_text("a");
  const auto prepared = PrepareRequest(request_, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const v1::Sampling& sampling = prepared->task.sampling;
  ASSERT_GE(sampling.logit_bias_size(), 1);
  for (const v1::LogitBias& ban : sampling.logit_bias()) {
    EXPECT_EQ(model_->tokenizer().Piece(static_cast<int32_t>(ban.token())), "a");
    EXPECT_EQ(ban.bias(), -std::numeric_limits<float>::infinity());
  }
}
TEST_F(PrepareRequestTest, BannedTextThatIsNoToken) {
  request_.add_banned_text("no one token\n");
  ExpectInvalid("banned_text \"no one token\\n\" is not the whole text of any token");
  request_.set_banned_text(0, "");
  ExpectInvalid("banned_text");
  for (int i = 0; i < 256; ++i) request_.add_banned_text("a");
  ExpectInvalid("banned_text has 257 entries");
}
TEST_F(PrepareRequestTest, AGuideComesWithDryAndMirostatOnly) {
  EXPECT_EQ(PrepareRequest(request_, *model_)->task.guide, nullptr);
  request_.mutable_sampling()->set_temperature(1);
  request_.mutable_sampling()->set_mirostat(1);
  EXPECT_NE(PrepareRequest(request_, *model_)->task.guide, nullptr);
  request_.mutable_sampling()->clear_mirostat();
  request_.mutable_dry()->set_multiplier(1);
  EXPECT_NE(PrepareRequest(request_, *model_)->task.guide, nullptr);
  request_.mutable_sampling()->add_filters(v1::FILTER_TEMPERATURE);
  ExpectInvalid("dry is set, but filters does not name it");
  request_.mutable_dry()->set_base(9);
  ExpectInvalid("dry.base");
}
TEST_F(PrepareRequestTest, AConstraintThatDoesNotCompile) {
  request_.set_grammar("root ::= \"a\" what");
  ExpectInvalid("grammar: line 1, column 14: the rule \"what\" is used but not defined");
  request_.set_grammar("");
  ExpectInvalid("grammar: line 1, column 1: the rule \"root\" is missing");
  request_.set_json_schema(R"({"items":{"not":1}})");
  ExpectInvalid("json_schema: at #/items/not: this keyword is not supported");
}
TEST_F(PrepareRequestTest, ABanOfWhatTheConstraintNeeds) {
  request_.set_grammar("root ::= \"\\t\"");
  const auto prepared = PrepareRequest(request_, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_NE(prepared->task.guide, nullptr);
  request_.add_banned_text("\t");
  ExpectInvalid("ban every token that the answer could begin with");
}
TEST_F(PrepareRequestTest, GrammarsAreKeptByTheirText) {
  GrammarCache& cache = model_->grammars();
  const auto first = cache.Get(GrammarNotation::kGbnf, "root ::= \"a\"");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(*cache.Get(GrammarNotation::kGbnf, "root ::= \"a\""), *first);
  for (size_t i = 0; i < GrammarCache::kMaxGrammars; ++i) {
    ASSERT_TRUE(cache.Get(GrammarNotation::kJsonSchema, "{\"const\":" + std::to_string(i) + "}").ok());
  }
  EXPECT_NE(*cache.Get(GrammarNotation::kGbnf, "root ::= \"a\""), *first) << "the oldest has gone";
}

// A generation as a client sees it.
class GeneratorTest : public ::testing::Test {
 protected:
  GeneratorTest() : model_(OpenTiny(kTemplate)) {
    Dispatcher::Options options;
    options.vocab = kFakeVocab;
    dispatcher_ = std::make_unique<Dispatcher>(std::move(options));
    generator_ = std::make_unique<Generator>(*model_, *dispatcher_);
    pipeline_ = std::make_unique<FakePipeline>(
        16, [this](std::unique_ptr<v1::StepFrame> frame) { dispatcher_->OnFrame(std::move(frame)); },
        [this](const v1::StepFrame&, v1::StepFrame* result) {
          // Once there is a script, the model says what it says.
          if (result->results_size() == 1 && next_ < script_.size()) {
            result->mutable_results(0)->mutable_draws(0)->set_token(script_[next_++]);
          }
        });
    PipelineSpec spec;
    spec.epoch = 1;
    spec.num_pages = 64;
    spec.page_tokens = 16;
    spec.context = 256;
    dispatcher_->AttachPipeline(spec, pipeline_->Link());
    request_.mutable_ids()->add_ids(10);
    request_.mutable_ids()->add_ids(20);
  }
  ~GeneratorTest() override {
    dispatcher_->Stop();
    pipeline_.reset();
  }

  void Say(const std::string& text) {
    for (char c : text) script_.push_back(Byte(c));
  }

  // Runs the request to its end.
  void Generate() {
    std::promise<void> done;
    auto generation = generator_->Start(request_, [&](v1::GenerateResponse response, bool last, absl::Status status) {
      text_ += response.text();
      ids_.insert(ids_.end(), response.ids().begin(), response.ids().end());
      for (const auto& logprobs : response.logprobs()) logprobs_.push_back(logprobs);
      if (!last) return;
      last_ = response;
      status_ = status;
      done.set_value();
    });
    ASSERT_TRUE(generation.ok()) << generation.status();
    done.get_future().wait();
  }

  const std::unique_ptr<ServedModel> model_;
  std::vector<int32_t> script_;  // before Generate; then the pipeline's thread reads it
  size_t next_ = 0;
  v1::GenerateRequest request_;
  std::string text_;
  std::vector<uint32_t> ids_;
  std::vector<v1::Logprobs> logprobs_;
  v1::GenerateResponse last_;
  absl::Status status_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<Generator> generator_;
  std::unique_ptr<FakePipeline> pipeline_;
};

TEST_F(GeneratorTest, StreamsTextIdsAndUsage) {
  Say("Hello");
  request_.set_max_tokens(5);
  request_.mutable_sampling()->set_seed(9);
  Generate();
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_EQ(text_, "Hello");
  EXPECT_THAT(ids_, ElementsAre(Byte('H'), Byte('e'), Byte('l'), Byte('l'), Byte('o')));
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(last_.usage().prompt_tokens(), 2u);
  EXPECT_EQ(last_.usage().generated_tokens(), 5u);
  EXPECT_EQ(last_.usage().seed(), 9u);
  EXPECT_GE(last_.timings().decode_s(), 0);
  EXPECT_TRUE(last_.has_timings());
}

TEST_F(GeneratorTest, EndOfTurnEndsTheAnswerAndIsNoText) {
  Say("Yes");
  script_.push_back(kEos);
  Generate();
  EXPECT_EQ(text_, "Yes");
  EXPECT_EQ(ids_.back(), static_cast<uint32_t>(kEos));
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_F(GeneratorTest, AWholeDocumentEndsTheAnswer) {
  Say("{\"a\": 7}");
  request_.set_json_schema(R"({"properties":{"a":{"type":"integer","maximum":9,"minimum":0}}})");
  Generate();
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_EQ(text_, "{\"a\": 7}");
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_F(GeneratorTest, ACutDocumentSaysThatItWasCut) {
  Say("{\"a\"");
  request_.set_json_schema("{}");
  request_.set_max_tokens(4);
  Generate();
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(text_, "{\"a\"");
}

TEST_F(GeneratorTest, IgnoredEndOfTurnGoesOn) {
  script_.push_back(kEos);
  Say("on");
  request_.set_ignore_end_of_turn(true);
  request_.set_max_tokens(3);
  Generate();
  EXPECT_EQ(text_, "on");
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GeneratorTest, StopStringAcrossTokensEndsTheTextBeforeIt) {
  Say("one two END three");
  request_.add_stop(" END");
  Generate();
  EXPECT_EQ(text_, "one two");
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(last_.usage().generated_tokens(), 11u) << "nothing is generated beyond it";
}

TEST_F(GeneratorTest, StopStringOnTheLastTokenIsAStop) {
  Say("abX");
  request_.add_stop("X");
  request_.set_max_tokens(3);
  Generate();
  EXPECT_EQ(text_, "ab");
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_F(GeneratorTest, TextHeldBackForAStopStringComesAtTheEnd) {
  Say("abEN");
  request_.add_stop("END");
  request_.set_max_tokens(4);
  Generate();
  EXPECT_EQ(text_, "abEN");
  EXPECT_EQ(last_.text(), "EN");
}

TEST_F(GeneratorTest, CharactersOfSeveralTokensArriveWhole) {
  Say("\xC3\xA4\xE2\x82");  // an umlaut, and a euro sign cut short
  request_.set_max_tokens(4);
  Generate();
  EXPECT_EQ(text_, "\xC3\xA4\xEF\xBF\xBD");
}

TEST_F(GeneratorTest, FullContextEndsTheAnswer) {
  request_.set_ignore_end_of_turn(true);
  Generate();
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_CONTEXT);
  EXPECT_EQ(ids_.size(), 254u);
}

TEST_F(GeneratorTest, FullContextIsNotTheEndOfAnAnswerThatShifts) {
  request_.set_ignore_end_of_turn(true);
  request_.set_at_context_end(v1::AT_CONTEXT_END_SHIFT);
  request_.set_max_tokens(500);
  Generate();
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(ids_.size(), 500u);
  EXPECT_EQ(last_.usage().prompt_tokens(), 2u);
  EXPECT_EQ(last_.usage().generated_tokens(), 500u);
  EXPECT_EQ(last_.usage().context_shifts(), 2u);
}

TEST_F(GeneratorTest, StopStringsAreFoundAcrossAShift) {
  for (int i = 0; i < 300; ++i) script_.push_back(Byte(i == 254 ? 'E' : i == 255 ? 'N' : i == 256 ? 'D' : 'x'));
  request_.add_stop("END");
  request_.set_at_context_end(v1::AT_CONTEXT_END_SHIFT);
  request_.set_max_tokens(300);
  Generate();
  EXPECT_EQ(last_.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(text_, std::string(254, 'x'));
  EXPECT_EQ(ids_.size(), 257u);
}

TEST_F(GeneratorTest, LogprobsComeOneForEachId) {
  request_.mutable_sampling()->set_top_logprobs(3);
  request_.set_max_tokens(2);
  request_.set_ignore_end_of_turn(true);
  Generate();
  ASSERT_EQ(logprobs_.size(), 2u);
  EXPECT_EQ(logprobs_[0].logprob(), -0.5f);
  ASSERT_EQ(logprobs_[0].top_size(), 3);
  EXPECT_EQ(logprobs_[0].top(2).token(), 2u);
}

TEST_F(GeneratorTest, PromptLongerThanTheContextIsRefusedWithBothNumbers) {
  for (int i = 0; i < 300; ++i) request_.mutable_ids()->add_ids(1);
  const auto generation = generator_->Start(request_, [](v1::GenerateResponse, bool, absl::Status) { FAIL(); });
  EXPECT_EQ(generation.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(generation.status().message()), HasSubstr("302 tokens; the context of 256"));
}

TEST_F(GeneratorTest, DestroyingTheHandleCancels) {
  pipeline_->Hold();
  std::promise<absl::Status> done;
  auto generation = generator_->Start(request_, [&](v1::GenerateResponse, bool last, absl::Status status) {
    if (last) done.set_value(status);
  });
  ASSERT_TRUE(generation.ok());
  generation->reset();
  EXPECT_EQ(done.get_future().get().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace tandem::coordinator
