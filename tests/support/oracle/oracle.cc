#include "tests/support/oracle/oracle.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

namespace tandem::testing::oracle {

Rows Logits(const engine::GgufFile& file, Tokens tokens) {
  static const std::map<std::string, Rows (*)(const ModelFile&, Tokens)> kArchitectures = {
      {"chatglm", ChatGlm},
      {"cohere2", Cohere2},
      {"command-r", CommandR},
      {"deepseek2", DeepSeek2},
      {"falcon", Falcon},
      {"gemma2", Gemma2},
      {"gemma3", Gemma3},
      {"glm4", Glm4},
      {"glm4moe", Glm4Moe},
      {"gpt-oss", GptOss},
      {"granite", Granite},
      {"internlm2", Llama},
      {"llama", Llama},
      {"olmo2", Olmo2},
      {"phi3", Phi3},
      {"qwen2", Qwen},
      {"qwen2moe", Qwen},
      {"qwen3", Qwen},
      {"qwen3moe", Qwen},
      {"seed_oss", SeedOss},
      {"smollm3", SmolLm3},
      {"stablelm", StableLm},
      {"starcoder2", StarCoder2},
  };
  const ModelFile model(file);
  const auto found = kArchitectures.find(model.architecture());
  if (found == kArchitectures.end()) {
    std::fprintf(stderr, "oracle: architecture \"%s\" is not defined\n", model.architecture().c_str());
    std::abort();
  }
  return found->second(model, tokens);
}

}  // namespace tandem::testing::oracle
