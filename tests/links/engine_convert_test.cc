#include "proto/support/engine_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/ascii.h"
#include "engine/cache/kv_format.h"
#include "engine/quant/activation_format.h"

namespace tandem::proto_support {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kVocab = 100;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

engine::ModelSpec Spec() {
  engine::ModelSpec spec;
  spec.vocab = kVocab;
  spec.hidden = 4;
  return spec;
}

TEST(SamplingFromProtoTest, UnsetFieldsGetTheirDefaults) {
  const auto params = SamplingFromProto(v1::Sampling(), kVocab);
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->temperature, 0.0f);
  EXPECT_EQ(params->top_k, 0);
  EXPECT_EQ(params->top_p, 1.0f);
  EXPECT_EQ(params->repetition_penalty, 1.0f);
  EXPECT_EQ(params->penalty_window, 64);
  EXPECT_EQ(params->seed, 0u);
  EXPECT_EQ(params->top_logprobs, -1);
}

TEST(SamplingFromProtoTest, EveryFieldArrives) {
  v1::Sampling sampling;
  sampling.set_temperature(0.5f);
  sampling.set_top_k(40);
  sampling.set_top_p(0.9f);
  sampling.set_min_p(0.1f);
  sampling.set_repetition_penalty(1.1f);
  sampling.set_presence_penalty(0.2f);
  sampling.set_frequency_penalty(-0.3f);
  sampling.set_penalty_window(0);
  sampling.set_seed(~uint64_t{0});
  sampling.set_top_logprobs(0);
  sampling.set_typical_p(0.8f);
  sampling.set_top_n_sigma(1.5f);
  sampling.set_xtc_probability(0.25f);
  sampling.set_xtc_threshold(0.2f);
  sampling.set_mirostat(2);
  sampling.set_mirostat_tau(4.0f);
  sampling.set_mirostat_eta(0.3f);
  for (int filter = 1; filter <= engine::kNumFilters; ++filter) sampling.add_filters(static_cast<v1::Filter>(filter));
  v1::LogitBias* bias = sampling.add_logit_bias();
  bias->set_token(99);
  bias->set_bias(-kInfinity);
  const auto params = SamplingFromProto(sampling, kVocab);
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->temperature, 0.5f);
  EXPECT_EQ(params->top_k, 40);
  EXPECT_EQ(params->top_p, 0.9f);
  EXPECT_EQ(params->min_p, 0.1f);
  EXPECT_EQ(params->repetition_penalty, 1.1f);
  EXPECT_EQ(params->presence_penalty, 0.2f);
  EXPECT_EQ(params->frequency_penalty, -0.3f);
  EXPECT_EQ(params->penalty_window, 0);
  EXPECT_EQ(params->seed, ~uint64_t{0});
  EXPECT_EQ(params->top_logprobs, 0);
  EXPECT_EQ(params->typical_p, 0.8f);
  EXPECT_EQ(params->top_n_sigma, 1.5f);
  EXPECT_EQ(params->xtc_probability, 0.25f);
  EXPECT_EQ(params->xtc_threshold, 0.2f);
  EXPECT_EQ(params->mirostat, 2);
  EXPECT_EQ(params->mirostat_tau, 4.0f);
  EXPECT_EQ(params->mirostat_eta, 0.3f);
  ASSERT_EQ(params->filters.size(), size_t{engine::kNumFilters});
  for (int i = 0; i < engine::kNumFilters; ++i) {
    // The wire's names are the engine's.
    EXPECT_EQ("FILTER_" + absl::AsciiStrToUpper(engine::FilterName(params->filters[i])),
              v1::Filter_Name(static_cast<v1::Filter>(i + 1)));
  }
  EXPECT_THAT(params->logit_bias, ElementsAre(std::pair<int32_t, float>(99, -kInfinity)));
}

TEST(SamplingFromProtoTest, BadFieldReturnsInvalidArgumentNamingIt) {
  struct Case {
    const char* field;
    std::function<void(v1::Sampling&)> spoil;
  };
  const auto bias = [](uint32_t token, float value) {
    return [=](v1::Sampling& s) {
      s.add_logit_bias()->set_token(token);
      s.mutable_logit_bias(0)->set_bias(value);
    };
  };
  const Case cases[] = {
      {"temperature", [](auto& s) { s.set_temperature(-0.1f); }},
      {"temperature", [](auto& s) { s.set_temperature(std::nanf("")); }},
      {"temperature", [](auto& s) { s.set_temperature(kInfinity); }},
      {"top_k", [](auto& s) { s.set_top_k(0x80000000u); }},
      {"top_p", [](auto& s) { s.set_top_p(0.0f); }},
      {"top_p", [](auto& s) { s.set_top_p(1.5f); }},
      {"min_p", [](auto& s) { s.set_min_p(2.0f); }},
      {"repetition_penalty", [](auto& s) { s.set_repetition_penalty(0.0f); }},
      {"presence_penalty", [](auto& s) { s.set_presence_penalty(101.0f); }},
      {"frequency_penalty", [](auto& s) { s.set_frequency_penalty(-101.0f); }},
      {"penalty_window", [](auto& s) { s.set_penalty_window(4097); }},
      {"penalty_window", [](auto& s) { s.set_penalty_window(0xffffffffu); }},
      {"top_logprobs", [](auto& s) { s.set_top_logprobs(65); }},
      {"top_logprobs", [](auto& s) { s.set_top_logprobs(0xffffffffu); }},
      {"typical_p", [](auto& s) { s.set_typical_p(0.0f); }},
      {"top_n_sigma", [](auto& s) { s.set_top_n_sigma(std::nanf("")); }},
      {"xtc_probability", [](auto& s) { s.set_xtc_probability(2.0f); }},
      {"xtc_threshold", [](auto& s) { s.set_xtc_threshold(0.7f); }},
      {"mirostat", [](auto& s) { s.set_mirostat(0xffffffffu); }},
      {"mirostat_tau", [](auto& s) { s.set_mirostat_tau(0.0f); }},
      {"mirostat_eta", [](auto& s) { s.set_mirostat_eta(-1.0f); }},
      {"filters", [](auto& s) { s.add_filters(v1::FILTER_UNSPECIFIED); }},
      {"filters", [](auto& s) { s.add_filters(static_cast<v1::Filter>(10)); }},
      {"filters",
       [](auto& s) {
         for (int i = 0; i < 10; ++i) s.add_filters(v1::FILTER_DRY);
       }},
      {"logit_bias", bias(kVocab, 1.0f)},
      {"logit_bias", bias(0xffffffffu, 1.0f)},
      {"logit_bias", bias(1, std::nanf(""))},
      {"logit_bias", bias(1, kInfinity)},
  };
  for (const Case& c : cases) {
    v1::Sampling sampling;
    c.spoil(sampling);
    const absl::Status status = SamplingFromProto(sampling, kVocab).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.field));
  }
}

TEST(DryFromProtoTest, DefaultsFieldsAndErrors) {
  const auto unset = DryFromProto(v1::Dry());
  ASSERT_TRUE(unset.ok());
  EXPECT_EQ(unset->multiplier, 0.0f);
  EXPECT_EQ(unset->breakers.size(), 4u);
  v1::Dry dry;
  dry.set_multiplier(0.8f);
  dry.set_base(2.0f);
  dry.set_allowed_length(5);
  dry.set_window(77);
  dry.add_breakers("x");
  const auto set = DryFromProto(dry);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->multiplier, 0.8f);
  EXPECT_EQ(set->base, 2.0f);
  EXPECT_EQ(set->allowed_length, 5);
  EXPECT_EQ(set->window, 77);
  EXPECT_THAT(set->breakers, ElementsAre("x"));
  dry.set_no_breakers(true);
  EXPECT_THAT(std::string(DryFromProto(dry).status().message()), HasSubstr("no_breakers"));
  dry.clear_breakers();
  EXPECT_TRUE(DryFromProto(dry)->breakers.empty());
  dry.set_window(0xffffffffu);
  EXPECT_THAT(std::string(DryFromProto(dry).status().message()), HasSubstr("dry.window"));
}

TEST(KvTypeTest, ConvertsBothWaysAndRefusesTheRest) {
  for (const engine::KvFormat& format : engine::AllKvFormats()) {
    EXPECT_EQ(*KvTypeFromProto(KvTypeToProto(format.type)), format.type);
  }
  for (const int type : {0, 6, -1}) {
    EXPECT_EQ(KvTypeFromProto(static_cast<v1::KvType>(type)).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// Two slices: three tokens without output, and one token to sample after.
v1::StepFrame GoodFrame(bool first_stage) {
  v1::StepFrame frame;
  v1::Slice* slice = frame.add_slices();
  for (const uint32_t token : {5u, 6u, 7u}) slice->add_tokens(token);
  slice->add_pages(3);
  slice->set_output(v1::SLICE_OUTPUT_NONE);
  slice = frame.add_slices();
  slice->set_position(20);
  slice->add_tokens(99);
  slice->add_pages(1);
  slice->add_pages(0xffffffffu);  // Stage::Run knows how many pages there are
  slice->set_output(v1::SLICE_OUTPUT_SAMPLE);
  slice->mutable_sampling()->set_top_k(7);
  slice->add_recent(98);
  if (!first_stage) {
    std::vector<float> hidden(4 * 4);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = static_cast<float>(i);
    frame.set_activations(hidden.data(), hidden.size() * sizeof(float));
    frame.set_activation_type(v1::ACTIVATION_TYPE_F32);
  }
  return frame;
}

TEST(StepFromFrameTest, FirstStageGetsTokens) {
  const v1::StepFrame frame = GoodFrame(true);
  StepStorage storage;
  const auto step = StepFromFrame(frame, Spec(), true, &storage);
  ASSERT_TRUE(step.ok()) << step.status();
  ASSERT_EQ(step->slices.size(), 2u);
  EXPECT_THAT(step->slices[0].tokens, ElementsAre(5, 6, 7));
  EXPECT_THAT(step->slices[0].pages, ElementsAre(3));
  EXPECT_EQ(step->slices[0].output, engine::SliceOutput::kNone);
  EXPECT_EQ(step->slices[0].sampling, nullptr);
  EXPECT_EQ(step->slices[1].position, 20);
  EXPECT_EQ(step->slices[1].output, engine::SliceOutput::kSample);
  ASSERT_NE(step->slices[1].sampling, nullptr);
  EXPECT_EQ(step->slices[1].sampling->top_k, 7);
  EXPECT_THAT(step->slices[1].draw.recent, ElementsAre(98));
  EXPECT_TRUE(step->hidden.empty());
}

TEST(StepFromFrameTest, LaterStageGetsActivations) {
  const v1::StepFrame frame = GoodFrame(false);
  StepStorage storage;
  const auto step = StepFromFrame(frame, Spec(), false, &storage);
  ASSERT_TRUE(step.ok()) << step.status();
  ASSERT_EQ(step->hidden.size(), 16u);
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(step->hidden[i], static_cast<float>(i));
}

TEST(StepFromFrameTest, NarrowActivationsAreConverted) {
  engine::ModelSpec spec = Spec();
  spec.hidden = 32;
  std::vector<float> hidden(4 * 32);
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = static_cast<float>(i % 32) * 127 / 31;
  StepStorage storage;
  for (const engine::TensorType type : engine::ActivationTypes()) {
    v1::StepFrame frame = GoodFrame(false);
    std::string bytes(engine::ActivationBytes(type, hidden.size()), '\0');
    engine::PackActivations(type, hidden, reinterpret_cast<std::byte*>(bytes.data()));
    frame.set_activations(bytes);
    frame.set_activation_type(ActivationTypeToProto(type));
    const auto step = StepFromFrame(frame, spec, false, &storage);
    ASSERT_TRUE(step.ok()) << step.status();
    ASSERT_EQ(step->hidden.size(), hidden.size());
    for (size_t i = 0; i < hidden.size(); ++i) ASSERT_NEAR(step->hidden[i], hidden[i], 0.51f) << i;
    frame.mutable_activations()->pop_back();
    EXPECT_FALSE(StepFromFrame(frame, spec, false, &storage).ok());
  }
}

TEST(StepFromFrameTest, DrawStateArrivesInEachFormOfTheSet) {
  v1::StepFrame frame = GoodFrame(true);
  v1::Slice& slice = *frame.mutable_slices(1);
  slice.set_mirostat_mu(9.5f);
  slice.set_dropped(uint64_t{1} << 40);
  v1::DryPenalty* penalty = slice.add_dry();
  penalty->set_token(7);
  penalty->set_penalty(1.5f);
  const auto words = [&frame]() -> std::vector<uint64_t> {
    StepStorage storage;
    const auto step = StepFromFrame(frame, Spec(), true, &storage);
    EXPECT_TRUE(step.ok()) << step.status();
    if (!step.ok()) return {};
    EXPECT_EQ(step->slices[1].draw.mirostat_mu, 9.5f);
    EXPECT_EQ(step->slices[1].draw.dropped, uint64_t{1} << 40);
    EXPECT_THAT(step->slices[1].draw.dry, ElementsAre(std::pair<int32_t, float>(7, 1.5f)));
    return {step->slices[1].draw.allowed.begin(), step->slices[1].draw.allowed.end()};
  };
  EXPECT_TRUE(words().empty()) << "no set: all";
  slice.mutable_allowed()->mutable_only()->add_ids(1);
  slice.mutable_allowed()->mutable_only()->add_ids(99);
  EXPECT_THAT(words(), ElementsAre(uint64_t{2}, uint64_t{1} << 35));
  slice.mutable_allowed()->mutable_all_but()->add_ids(0);
  EXPECT_THAT(words(), ElementsAre(~uint64_t{1}, (uint64_t{1} << 36) - 1));
  std::string bits(13, '\0');
  bits[12] = 8;
  slice.mutable_allowed()->set_bits(bits);
  EXPECT_THAT(words(), ElementsAre(uint64_t{0}, uint64_t{1} << 35));
}

TEST(StepFromFrameTest, StorageIsReusedFromStepToStep) {
  StepStorage storage;
  const v1::StepFrame frame = GoodFrame(true);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(StepFromFrame(frame, Spec(), true, &storage).ok());
  EXPECT_EQ(storage.sampling.size(), 1u);
}

TEST(StepFromFrameTest, BadFrameReturnsInvalidArgumentNamingTheField) {
  struct Case {
    const char* message;
    bool first_stage;
    std::function<void(v1::StepFrame&)> spoil;
  };
  const Case cases[] = {
      {"slices is empty", true, [](auto& f) { f.clear_slices(); }},
      {"slice 0: tokens is empty", true, [](auto& f) { f.mutable_slices(0)->clear_tokens(); }},
      {"slice 0: tokens[1] is 100", true, [](auto& f) { f.mutable_slices(0)->set_tokens(1, kVocab); }},
      {"slice 0: tokens[2] is 4294967295", false, [](auto& f) { f.mutable_slices(0)->set_tokens(2, 0xffffffffu); }},
      {"slice 1: position is 2147483648", true, [](auto& f) { f.mutable_slices(1)->set_position(0x80000000u); }},
      {"slice 0: output is 0", true, [](auto& f) { f.mutable_slices(0)->clear_output(); }},
      {"slice 0: output is 9", true, [](auto& f) { f.mutable_slices(0)->set_output(static_cast<v1::SliceOutput>(9)); }},
      {"slice 1: temperature", true, [](auto& f) { f.mutable_slices(1)->mutable_sampling()->set_temperature(-1); }},
      {"slice 1: recent[0] is 100", true, [](auto& f) { f.mutable_slices(1)->set_recent(0, kVocab); }},
      {"slice 1: mirostat_mu", true, [](auto& f) { f.mutable_slices(1)->set_mirostat_mu(kInfinity); }},
      {"slice 1: dry names token 100", true, [](auto& f) { f.mutable_slices(1)->add_dry()->set_token(kVocab); }},
      {"slice 1: dry[0]", true, [](auto& f) { f.mutable_slices(1)->add_dry()->set_penalty(-1); }},
      {"slice 1: allowed is set", true, [](auto& f) { f.mutable_slices(1)->mutable_allowed(); }},
      {"slice 1: allowed.only[0] is 100", true,
       [](auto& f) { f.mutable_slices(1)->mutable_allowed()->mutable_only()->add_ids(kVocab); }},
      {"slice 1: allowed has no token", true, [](auto& f) { f.mutable_slices(1)->mutable_allowed()->mutable_only(); }},
      {"slice 1: allowed.all_but[1] is 3 after 3", true,
       [](auto& f) {
         f.mutable_slices(1)->mutable_allowed()->mutable_all_but()->add_ids(3);
         f.mutable_slices(1)->mutable_allowed()->mutable_all_but()->add_ids(3);
       }},
      {"slice 1: allowed.bits has 12 bytes, expected 13", true,
       [](auto& f) { f.mutable_slices(1)->mutable_allowed()->set_bits(std::string(12, 'x')); }},
      {"slice 1: allowed has tokens beyond", true,
       [](auto& f) { f.mutable_slices(1)->mutable_allowed()->set_bits(std::string(13, 'x')); }},
      {"activations has 1 bytes, the first stage takes none", true, [](auto& f) { f.set_activations("x"); }},
      {"activation_type is 0", false, [](auto& f) { f.clear_activation_type(); }},
      {"activation_type is 9", false, [](auto& f) { f.set_activation_type(static_cast<v1::ActivationType>(9)); }},
      {"activations has 64 bytes, expected 32 for 4 tokens of 4 as f16", false,
       [](auto& f) { f.set_activation_type(v1::ACTIVATION_TYPE_F16); }},
      {"activations of 4 values a token cannot travel as q8_0", false,
       [](auto& f) { f.set_activation_type(v1::ACTIVATION_TYPE_Q8_0); }},
      {"activations has 0 bytes, expected 64", false, [](auto& f) { f.clear_activations(); }},
      {"activations has 65 bytes, expected 64", false, [](auto& f) { f.mutable_activations()->push_back('x'); }},
      {"activations has 64 bytes, expected 80", false, [](auto& f) { f.mutable_slices(0)->add_tokens(1); }},
  };
  for (const Case& c : cases) {
    v1::StepFrame frame = GoodFrame(c.first_stage);
    c.spoil(frame);
    StepStorage storage;
    const absl::Status status = StepFromFrame(frame, Spec(), c.first_stage, &storage).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace tandem::proto_support
