// An independent restatement of every architecture: what a model file computes, written straight from the public
// definition in double precision, to check the engine against. It shares the reader of files and the dequantisers with
// the engine and nothing else; tests/support/oracle_test.cc checks it against another engine's logits.
#pragma once

#include "engine/gguf/gguf_file.h"
#include "tests/support/oracle/blocks.h"

namespace tandem::testing::oracle {

// Logits at every position of `tokens`, [tokens, vocabulary]. The architecture must be one of those below; tokens are
// in the vocabulary.
Rows Logits(const engine::GgufFile& file, Tokens tokens);

// One function an architecture, by the name that general.architecture gives it. Names and shapes of tensors and the
// names of hyperparameters are those of files that llama.cpp's converter (convert_hf_to_gguf.py) writes.
Rows Llama(const ModelFile& file, Tokens tokens);  // also internlm2
Rows SeedOss(const ModelFile& file, Tokens tokens);
Rows Granite(const ModelFile& file, Tokens tokens);
Rows SmolLm3(const ModelFile& file, Tokens tokens);
Rows Qwen(const ModelFile& file, Tokens tokens);  // qwen2, qwen2moe, qwen3, qwen3moe
Rows Gemma2(const ModelFile& file, Tokens tokens);
Rows Gemma3(const ModelFile& file, Tokens tokens);
Rows Phi3(const ModelFile& file, Tokens tokens);
Rows ChatGlm(const ModelFile& file, Tokens tokens);
Rows Glm4(const ModelFile& file, Tokens tokens);
Rows Glm4Moe(const ModelFile& file, Tokens tokens);
Rows GptOss(const ModelFile& file, Tokens tokens);
Rows DeepSeek2(const ModelFile& file, Tokens tokens);
Rows CommandR(const ModelFile& file, Tokens tokens);
Rows Cohere2(const ModelFile& file, Tokens tokens);
Rows Olmo2(const ModelFile& file, Tokens tokens);
Rows StarCoder2(const ModelFile& file, Tokens tokens);
Rows Falcon(const ModelFile& file, Tokens tokens);
Rows StableLm(const ModelFile& file, Tokens tokens);

}  // namespace tandem::testing::oracle
