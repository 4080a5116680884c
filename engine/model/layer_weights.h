// The weights of one transformer layer. Which of them a model has follows from its architecture and its file; the rest
// is empty. Names and shapes as in the papers (rows are outputs, slowest axis first).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cpu/packed_matrix.h"

namespace tandem::engine {

using Vector = std::vector<float>;
using Matrices = std::vector<PackedMatrix>;

struct LayerWeights {
  // Norms of the residual stream, [hidden]: before and after attention, before and after the FFN. In a parallel layer
  // without ffn_norm the FFN takes the input of the attention.
  Vector attn_norm, attn_norm_bias;
  Vector attn_post_norm;
  Vector ffn_norm, ffn_norm_bias;
  Vector ffn_post_norm;

  PackedMatrix q;       // [heads * head_dim, hidden], or, where q_a is there, its rank for hidden
  PackedMatrix k, v;    // [kv_heads * head_dim, hidden]
  PackedMatrix output;  // [hidden, heads * value_dim]
  Vector q_bias, k_bias, v_bias, output_bias;
  Vector q_norm, k_norm;  // [head_dim], [heads or kv_heads, head_dim], or QkNorm::kRow: as long as q and k
  Vector sinks;           // [heads]

  // Multi-head latent attention (DeepSeek-V2, 2024).
  PackedMatrix q_a;   // [q_rank, hidden]
  Vector q_a_norm;    // [q_rank]
  PackedMatrix kv_a;  // [kv_rank + rope dims, hidden]
  Vector kv_a_norm;   // [kv_rank]
  Matrices k_b;       // a head each: [kv_rank, unrotated dims], takes a query to the compressed keys' space
  Matrices v_b;       // a head each: [value_dim, kv_rank]

  // Dense FFN, or the experts that every token goes through.
  PackedMatrix gate, up;  // [ffn, hidden]
  PackedMatrix down;      // [hidden, ffn]
  Vector gate_bias, up_bias, down_bias;
  Vector shared_gate;  // [hidden]: its sigmoid scales the shared experts' result

  PackedMatrix router;              // [experts, hidden]
  Vector router_bias;               // [experts]
  Vector selection_bias;            // [experts]: added to the scores when experts are chosen, not when they are weighed
  Matrices expert_gate, expert_up;  // an expert each: [expert ffn, hidden]
  Matrices expert_down;             // an expert each: [hidden, expert ffn]
  Vector expert_gate_bias, expert_up_bias;  // [experts, expert ffn]
  Vector expert_down_bias;                  // [experts, hidden]
};

}  // namespace tandem::engine
