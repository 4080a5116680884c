#include <fstream>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/generation_flags.h"
#include "cli/token_ids.h"
#include "engine/base/format_bytes.h"
#include "tests/support/temp_folder.h"

namespace tandem::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TokenIdsTest, CommasAndSpacesSeparate) {
  EXPECT_THAT(*ParseTokenIds("1,403,407"), ElementsAre(1, 403, 407));
  EXPECT_THAT(*ParseTokenIds(" 1 403,\n407 "), ElementsAre(1, 403, 407));
}

TEST(TokenIdsTest, WhatIsNoIdIsNamed) {
  for (const char* text : {"1,two", "1,-2", "1,99999999999", "1,2.5"}) {
    const auto ids = ParseTokenIds(text);
    EXPECT_TRUE(absl::IsInvalidArgument(ids.status())) << text;
    EXPECT_THAT(std::string(ids.status().message()), HasSubstr(std::string(text).substr(2)));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTokenIds(" , ").status()));
}

TEST(GenerationFlagsTest, DefaultsAreGreedyWithoutASeed) {
  v1::GenerateRequest request;
  ASSERT_TRUE(ApplyGenerationFlags(GenerationFlags(), &request).ok());
  EXPECT_EQ(request.sampling().temperature(), 0);
  EXPECT_FALSE(request.sampling().has_seed());
  EXPECT_FALSE(request.has_max_tokens());
}

TEST(GenerationFlagsTest, LogitBiasTakesMinusInfinityAndNamesWhatItDoesNotUnderstand) {
  GenerationFlags flags;
  flags.logit_bias = {"15=-1.5", "16=-inf"};
  v1::GenerateRequest request;
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  ASSERT_EQ(request.sampling().logit_bias_size(), 2);
  EXPECT_EQ(request.sampling().logit_bias(0).token(), 15u);
  EXPECT_EQ(request.sampling().logit_bias(0).bias(), -1.5f);
  EXPECT_EQ(request.sampling().logit_bias(1).bias(), -std::numeric_limits<float>::infinity());
  for (const char* text : {"15", "x=1", "15=", "=1"}) {
    flags.logit_bias = {text};
    const absl::Status status = ApplyGenerationFlags(flags, &request);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(GenerationFlagsTest, FiltersAreNamesInOrder) {
  GenerationFlags flags;
  flags.filters = "top_k, min-p,temperature";
  v1::GenerateRequest request;
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  EXPECT_THAT(request.sampling().filters(), ElementsAre(v1::FILTER_TOP_K, v1::FILTER_MIN_P, v1::FILTER_TEMPERATURE));
  for (const char* text : {"top_z", "top_k,,x", "unspecified"}) {
    flags.filters = text;
    const absl::Status status = ApplyGenerationFlags(flags, &request);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is none of penalties"));
  }
}

TEST(GenerationFlagsTest, BansAndDryBreakersMayBeRepeated) {
  GenerationFlags flags;
  CLI::App app;
  AddGenerationFlags(app, &flags);
  app.parse("--ban x --ban ' y' --dry-multiplier 0.8 --dry-breaker '.' --mirostat 2");
  v1::GenerateRequest request;
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  EXPECT_THAT(request.banned_text(), ElementsAre("x", " y"));
  EXPECT_THAT(request.dry().breakers(), ElementsAre("."));
  EXPECT_EQ(request.dry().multiplier(), 0.8f);
  EXPECT_EQ(request.sampling().mirostat(), 2u);
}

TEST(GenerationFlagsTest, TheEndOfTheContextIsStopOrShift) {
  GenerationFlags flags;
  CLI::App app;
  AddGenerationFlags(app, &flags);
  v1::GenerateRequest request;
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  EXPECT_EQ(request.at_context_end(), v1::AT_CONTEXT_END_UNSPECIFIED);
  app.parse("--at-context-end shift --keep 30 --max-tokens 1000");
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  EXPECT_EQ(request.at_context_end(), v1::AT_CONTEXT_END_SHIFT);
  EXPECT_EQ(request.keep(), 30u);
  EXPECT_THROW(app.parse("--at-context-end wrap"), CLI::ParseError);
  EXPECT_THROW(app.parse("--keep 30"), CLI::ParseError);
}

TEST(GenerationFlagsTest, AGrammarIsAFileOrItsText) {
  GenerationFlags flags;
  flags.grammar = "root ::= \"a\"";
  v1::GenerateRequest request;
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  EXPECT_EQ(request.grammar(), flags.grammar);
  const std::string path = tandem::testing::TempFolder() + "/schema.json";
  std::ofstream(path) << "{\"type\":\"null\"}\n";
  flags = {};
  flags.json_schema = path;
  ASSERT_TRUE(ApplyGenerationFlags(flags, &request).ok());
  EXPECT_EQ(request.json_schema(), "{\"type\":\"null\"}\n");
  EXPECT_FALSE(request.has_grammar());
}

TEST(ClusterTextTest, BytesInTheUnitThatFits) {
  EXPECT_EQ(FormatBytes(512), "512 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(uint64_t{3} << 29), "1.50 GiB");
}

}  // namespace
}  // namespace tandem::cli
