// The working memory of a stage: every buffer that a step needs, sized once for the largest step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/gguf/gguf_file.h"
#include "engine/model/adapter.h"
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

// Consecutive tokens of one slice, whose queries go to attention together.
struct TokenRun {
  int32_t first = 0, count = 0;  // tokens of the step
};

// Rows of int8 activations with one scale a block; see Activations. Null where no weight of the stage wants them.
struct Int8Rows {
  int8_t* q = nullptr;       // rows of the largest input
  float* scale = nullptr;    // one for each block of it
  int32_t* sum16 = nullptr;  // one for each 16 of it
};

// Counts that size the buffers.
struct ScratchShape {
  int64_t tokens = 0;  // of the largest step
  int64_t hidden = 0, q_width = 0, k_width = 0, v_width = 0, result_width = 0, rope_pairs = 0;
  int64_t ffn_elements = 0;                                        // of all rows of the widest FFN
  int64_t query_width = 0, q_rank = 0, unrotated = 0, values = 0;  // compressed attention; else 0
  int64_t expert_count = 0, expert_groups = 0, expert_rows = 0;    // rows: a token's choices each; 0: no experts
  int64_t expert_input_rows = 0;                                   // as many where experts take plain floats
  int64_t logit_rows = 0, vocab = 0;                               // 0 but on the last stage
  int64_t int8_block32 = 0, int8_block256 = 0;                     // elements of the largest input quantised so
  int64_t int8_q = 0;                                              // elements of q, where attention takes it as int8
  int64_t adapter_rank = 0, adapter_rows = 0;                      // widest halves of adapters; 0: none
  int64_t ropes = 1;
  int64_t num_pages = 0;

  // For a stage whose options have been checked.
  static ScratchShape Of(const ModelSpec& spec, const GgufFile& file, const StageOptions& options,
                         std::span<const AdapterSpec> adapters);
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
  float* q = nullptr;          // [tokens, heads, elements of a cached key]
  float* k = nullptr;          // [tokens, kv.heads * kv.key_dim]
  float* v = nullptr;          // [tokens, kv.heads * kv.value_dim]
  float* attention = nullptr;  // [tokens, heads, value_dim]; compressed: [heads, tokens, kv_rank]
  float* projected = nullptr;  // [tokens, hidden] what is added to the residual stream
  float* gate = nullptr;       // [rows, ffn], then f(gate) * up; rows are tokens, or choices of experts
  float* up = nullptr;         // [rows, ffn]
  float* logits = nullptr;     // [logit_rows, vocab]

  // Compressed attention.
  float* query = nullptr;      // [tokens, heads, head_dim]
  float* latent = nullptr;     // [tokens, q_rank]
  float* head_rows = nullptr;  // [heads, tokens, unrotated elements of a query]
  float* values = nullptr;     // [tokens, heads, value_dim]

  // Experts. A choice is one expert of one token, in the order of tokens and then of the experts' numbers; rows are the
  // choices sorted by expert and then by token.
  float* expert_scores = nullptr;     // [tokens, experts]
  float* expert_selection = nullptr;  // [tokens, experts + groups] scores that they are chosen by
  float* expert_weights = nullptr;    // [choices]
  float* expert_input = nullptr;      // [rows, hidden]
  float* expert_output = nullptr;     // [rows, hidden]
  int32_t* expert_ids = nullptr;      // [choices]
  int32_t* expert_rows = nullptr;     // [choices] the row of each
  int32_t* row_tokens = nullptr;      // [rows]
  int32_t* expert_begin = nullptr;    // [experts + 1] first row of each
  int32_t* active_experts = nullptr;  // [experts] those with rows, ascending

  float* adapter_low = nullptr;    // [tokens, rank] A x
  float* adapter_added = nullptr;  // [tokens, rows of the adapted matrix] B (A x)

  // Of the positions of the step: without and with a window, where that makes a difference.
  struct Rotations {
    float* cos = nullptr;  // [tokens, rope_pairs]
    float* sin = nullptr;  // [tokens, rope_pairs]
  };
  Rotations rotations[2];
  Int8Rows int8_block32, int8_block256;
  Int8Rows int8_q;                      // of q, for a cache that takes int8 queries; else null
  TokenPlace* places = nullptr;         // [tokens]
  TokenRun* attention_runs = nullptr;   // [tokens]
  uint64_t* page_written_in = nullptr;  // [num_pages] number of the step that last wrote the page

 private:
  // Sets the pointers, one buffer after the other from `base`, and returns the bytes used.
  uint64_t LayOut(const ScratchShape& shape, std::byte* base);
  class Cursor;
  void LayOutExperts(const ScratchShape& shape, Cursor* cursor);
  static void TakeInt8(int64_t elements, int64_t block, Cursor* cursor, Int8Rows* rows);
  Scratch() = default;

  struct FreeAligned {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], FreeAligned> memory_;
  uint64_t bytes_ = 0;
};

}  // namespace tandem::engine
