// Token ids of real vocabularies, equal to those of an independent implementation (reference folder).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path ReferenceFolder() {
  const char* folder = std::getenv("TANDEM_REFERENCE");
  return folder != nullptr ? fs::path(folder) : fs::path(TANDEM_SOURCE_DIR) / ".." / "shared" / "reference";
}

json ReadJson(const fs::path& path) {
  std::ifstream stream(path);
  return json::parse(stream);
}

class TokenizerReferenceTest : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerReferenceTest, IdsAndTextOfEveryCaseAreEqual) {
  const fs::path folder = ReferenceFolder() / "tokenizer";
  const fs::path model = folder / (std::string(GetParam()) + ".gguf");
  if (!fs::exists(model)) GTEST_SKIP() << "no reference folder (set TANDEM_REFERENCE): " << model;
  const auto file = GgufFile::Open(model.string());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = Tokenizer::Create(**file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const json cases = ReadJson(folder / (std::string(GetParam()) + ".cases.json"));
  ASSERT_GT(cases.size(), 100u);
  for (const json& item : cases) {
    const std::string text = item["text"];
    const EncodeOptions options = {item.value("add_special", false), item.value("parse_special", false)};
    const auto expected = item["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ((*tokenizer)->Encode(text, options), expected) << "text: " << item["text"];
    if (options.add_special || options.parse_special) continue;  // BOS has no place in the text
    EXPECT_EQ((*tokenizer)->Decode(expected), text) << "text: " << item["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerReferenceTest,
                         testing::Values("llama-spm", "phi-3", "gpt-2", "falcon", "starcoder", "deepseek-coder",
                                         "deepseek-llm"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(TokenizerStoriesTest, PromptsOfTheTinyStoriesModel) {
  const fs::path folder = ReferenceFolder() / "models";
  if (!fs::exists(folder)) GTEST_SKIP() << "no reference folder (set TANDEM_REFERENCE): " << folder;
  const auto file = GgufFile::Open((folder / "stories260k-f32.gguf").string());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = Tokenizer::Create(**file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const json stories = ReadJson(folder / "stories260k.json");
  ASSERT_FALSE(stories.empty());
  for (const json& story : stories) {
    const std::string prompt = story["prompt"];
    EXPECT_EQ((*tokenizer)->Encode(prompt, {.add_special = true}), story["prompt_ids"].get<std::vector<TokenId>>())
        << prompt;
    StreamDecoder decoder(**tokenizer, /*at_text_start=*/false);
    std::string text;
    for (const TokenId id : story["greedy_ids"].get<std::vector<TokenId>>()) text += decoder.Push(id);
    EXPECT_EQ(text + decoder.Finish(), story["greedy_text"]) << prompt;
  }
}

}  // namespace
}  // namespace tandem::engine
