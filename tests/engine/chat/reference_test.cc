// Real chat templates, rendered byte for byte as their reference does (reference folder).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/chat/evaluator.h"
#include "engine/chat/json_value.h"
#include "engine/chat/parser.h"

namespace tandem::engine::jinja {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

fs::path ChatFolder() {
  const char* folder = std::getenv("TANDEM_REFERENCE");
  const fs::path root =
      folder != nullptr ? fs::path(folder) : fs::path(TANDEM_SOURCE_DIR) / ".." / "shared" / "reference";
  return root / "chat";
}

std::string ReadFile(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

class ChatReferenceTest : public testing::TestWithParam<const char*> {};

TEST_P(ChatReferenceTest, EveryCaseRendersEqually) {
  const fs::path folder = ChatFolder();
  if (!fs::exists(folder)) GTEST_SKIP() << "no reference folder (set TANDEM_REFERENCE): " << folder;
  const Json reference = Json::parse(ReadFile(folder / "expected.json"));
  const auto block = ParseTemplate(ReadFile(folder / "templates" / GetParam()));
  ASSERT_TRUE(block.ok()) << block.status();
  ASSERT_FALSE(reference["expected"][GetParam()].empty());
  for (const auto& [name, expected] : reference["expected"][GetParam()].items()) {
    Variables variables;
    for (const auto& [key, value] : reference["cases"][name].items())
      variables[key] = ValueFromJson(value.dump()).value();
    for (const char* token : {"bos_token", "eos_token"}) variables[token] = Value::String(reference[token]);
    const auto rendered = Evaluator(*block, std::move(variables), absl::CivilSecond(2024, 7, 26, 12)).Render();
    if (expected.contains("error")) {
      EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument) << name;
      EXPECT_THAT(std::string(rendered.status().message()), HasSubstr(expected["error"].get<std::string>())) << name;
    } else {
      ASSERT_TRUE(rendered.ok()) << name << ": " << rendered.status();
      EXPECT_EQ(*rendered, expected["rendered"].get<std::string>()) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Templates, ChatReferenceTest,
    testing::Values("CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", "GLM-4.6.jinja",
                    "HuggingFaceTB-SmolLM3-3B.jinja", "Kimi-K2-Instruct.jinja",
                    "Mistral-Small-3.2-24B-Instruct-2506.jinja", "NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja",
                    "Qwen-QwQ-32B.jinja", "Qwen-Qwen2.5-7B-Instruct.jinja", "Qwen-Qwen3-0.6B.jinja",
                    "Qwen3-Coder.jinja", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja",
                    "deepseek-ai-DeepSeek-V3.1.jinja", "google-gemma-2-2b-it.jinja", "google-gemma-4-31B-it.jinja",
                    "ibm-granite-granite-3.3-2B-Instruct.jinja", "meetkai-functionary-medium-v3.2.jinja",
                    "meta-llama-Llama-3.1-8B-Instruct.jinja", "meta-llama-Llama-3.2-3B-Instruct.jinja",
                    "microsoft-Phi-3.5-mini-instruct.jinja", "mistralai-Mistral-Nemo-Instruct-2407.jinja",
                    "openai-gpt-oss-120b.jinja"),
    [](const auto& info) {
      std::string name = info.param;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

}  // namespace
}  // namespace tandem::engine::jinja
