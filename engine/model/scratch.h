// The working memory of a stage: every buffer that a step needs, sized once for the largest step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/stage.h"

namespace tandem::engine {

// Where a token of the step lives.
struct TokenPlace {
  int32_t slice = 0;     // index into Step::slices
  int32_t position = 0;  // in its sequence
  uint32_t page = 0;     // KV page and row in it
  int32_t slot = 0;
};

// Rows of int8 activations with one scale a block; see Activations. Null where no weight of the stage wants them.
struct Int8Rows {
  int8_t* q = nullptr;       // [tokens, widest input]
  float* scale = nullptr;    // [tokens, widest input / block]
  int32_t* sum16 = nullptr;  // [tokens, widest input / 16]
};

// Counts that size the buffers.
struct ScratchShape {
  int64_t tokens = 0;  // of the largest step
  int64_t hidden = 0, q_width = 0, kv_width = 0, ffn = 0, rope_pairs = 0;
  int64_t logit_rows = 0, vocab = 0;                      // 0 but on the last stage
  int64_t int8_block32_cols = 0, int8_block256_cols = 0;  // widest input quantised so; 0: none
  int64_t threads = 0, num_pages = 0;

  // For a stage whose options have been checked. `threads` is the real number.
  static ScratchShape Of(const ModelSpec& spec, const GgufFile& file, const StageOptions& options, int threads);
};

// Ownership: owns one block of memory that all pointers lead into. Threading: the step thread hands out parts of it.
class Scratch {
 public:
  explicit Scratch(const ScratchShape& shape);  // throws std::bad_alloc
  static uint64_t BytesFor(const ScratchShape& shape);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  uint64_t bytes() const { return bytes_; }

  // All rows are tokens of the step, in its order, unless said otherwise.
  float* hidden = nullptr;     // [tokens, hidden] the residual stream
  float* normed = nullptr;     // [tokens, hidden] input of the matmuls after a norm
  float* q = nullptr;          // [tokens, heads * head_dim]
  float* k = nullptr;          // [tokens, kv_heads * head_dim]
  float* v = nullptr;          // [tokens, kv_heads * head_dim]
  float* attention = nullptr;  // [tokens, heads * head_dim]
  float* projected = nullptr;  // [tokens, hidden] what is added to the residual stream
  float* gate = nullptr;       // [tokens, ffn], then silu(gate) * up
  float* up = nullptr;         // [tokens, ffn]
  float* rope_cos = nullptr;   // [tokens, rope_pairs]
  float* rope_sin = nullptr;   // [tokens, rope_pairs]
  float* logits = nullptr;     // [logit_rows, vocab]
  Int8Rows int8_block32, int8_block256;
  TokenPlace* places = nullptr;               // [tokens]
  const std::byte** page_pointers = nullptr;  // [threads, keys and values, num_pages]
  uint64_t* page_written_in = nullptr;        // [num_pages] number of the step that last wrote the page

 private:
  // Sets the pointers, one buffer after the other from `base`, and returns the bytes used.
  uint64_t LayOut(const ScratchShape& shape, std::byte* base);
  Scratch() = default;

  struct FreeAligned {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], FreeAligned> memory_;
  uint64_t bytes_ = 0;
};

}  // namespace tandem::engine
