// Positions and attention of the oracle.
#pragma once

#include <vector>

#include "tests/support/oracle/blocks.h"

namespace tandem::testing::oracle {

// Widths of a model. key_length and value_length default to embedding_length / head_count.
struct Shape {
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int key_dim = 0;
  int value_dim = 0;
};
Shape ReadShape(const ModelFile& file);

// Rotary positions (Su et al., RoFormer): pair i of a head is turned by position * frequency[i] and stretched by
// `magnitude`. The first 2 * frequency.size() elements of a head are turned, the others left.
struct Rope {
  // Which elements are a pair. Converted files of models whose own code pairs halves may have their rows reordered so
  // that neighbours pair; the architecture decides.
  enum Pairs { kNeighbours, kHalves };  // (2i, 2i + 1) or (i, i + n/2)
  Pairs pairs = kNeighbours;
  std::vector<double> frequency;  // radians a token
  double magnitude = 1;
};
// frequency[i] = base^(-2i/dims).
Rope PlainRope(int dims, double base, Rope::Pairs pairs);
// As the file says: dimension_count, freq_base, scaling by "linear" or "yarn", and the divisors of rope_freqs.weight
// (Llama 3.1's).
Rope ReadRope(const ModelFile& file, Rope::Pairs pairs);
// Divides each frequency by its factor.
void DivideFrequencies(const Tensor& factors, Rope* rope);

// Turns each head of `head_dim` elements of each row; row t is at position t. The rotation begins `offset` elements
// into a head.
void Rotate(const Rope& rope, int head_dim, Rows* x, int offset = 0);

struct Qkv {
  Rows q;  // [tokens, heads * key_dim]
  Rows k;  // [tokens, kv_heads * key_dim]
  Rows v;  // [tokens, kv_heads * value_dim]
};
Qkv Project(const Layer& layer, const Rows& x);                           // attn_q, attn_k, attn_v
Qkv ProjectFused(const Layer& layer, const Shape& shape, const Rows& x);  // attn_qkv: all queries, all keys, all values
void Rotate(const Rope& rope, const Shape& shape, Qkv* qkv);

struct AttentionOptions {
  double scale = 0;               // of the dot products; 0: 1 / sqrt(key_dim)
  double softcap = 0;             // c: a score becomes c * tanh(score / c)
  int window = 0;                 // w: a token sees itself and the w - 1 before it; 0: all before it
  const Tensor* sinks = nullptr;  // [heads]: a score a head that takes its share of the softmax and gives no value
};
// Causal softmax attention; query head h reads key/value head h * kv_heads / heads. [tokens, heads * value_dim]
Rows Attend(const Qkv& qkv, const Shape& shape, const AttentionOptions& options = {});

}  // namespace tandem::testing::oracle
