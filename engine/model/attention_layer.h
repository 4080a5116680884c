// Attention of one layer: queries, keys and values of the tokens of a step, their place in the cache, and what each
// token takes from the keys that it sees. Two forms share the second half:
//
//   plain       q = rope(norm(Wq n)), k = rope(norm(Wk n)), v = Wv n, for each head
//   compressed  the cache holds c = norm(Wkva n) and one rotated key part for all heads; a head's query is taken to the
//               space of c (k_b), and what it gathers there back to values (v_b). DeepSeek-V2 (2024), section 2.1
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/cache/kv_pages.h"
#include "engine/model/block_context.h"
#include "engine/stage.h"

namespace tandem::engine {

// Ownership: borrows everything. Threading: owned by the step thread, works on the pool.
class AttentionLayer {
 public:
  AttentionLayer(BlockContext& context, KvPages& kv) : context_(context), kv_(kv) {}

  // What the products that begin a layer want of its input.
  static InputForms Wants(const LayerWeights& weights) {
    return {weights.q_a.empty() ? &weights.q : &weights.q_a, &weights.k, &weights.v, &weights.kv_a};
  }
  // From scratch.normed, prepared, to queries in scratch.q and keys and values in the cache of the stage's layer
  // `layer`.
  void ProjectAndStore(const LayerWeights& weights, const LayerSpec& spec, int32_t layer);
  // Every token's result, prepared for weights.output. Gives the input of that product.
  const float* Attend(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step);

 private:
  struct HeadRange {
    int64_t first, end;
  };

  void ProjectPlain(const LayerWeights& weights);
  void RotateAndStore(const LayerWeights& weights, const LayerSpec& spec, int32_t layer);
  void NormHeads(const Vector& norm, int32_t heads, float* x) const;
  void Rotate(const LayerSpec& spec, int64_t token, int32_t heads, int32_t stride, float* x) const;

  void ProjectCompressed(const LayerWeights& weights);
  void StoreCompressed(const LayerWeights& weights, const LayerSpec& spec, int32_t layer);
  void ExpandValues(const LayerWeights& weights);

  void AttendHeads(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step);
  // Cuts the step's slices into runs of at most `run_tokens` tokens, in scratch. Returns how many.
  int64_t MakeRuns(const Step& step, int64_t run_tokens);
  // In this thread: row `row` of [tokens, heads] queries, as the cache wants it; empty where that is floats.
  Activations QuantizeQuery(int64_t row) const;
  // In this thread: queries of some heads of one KV head.
  void AttendRun(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step,
                 const TokenRun& run, HeadRange heads);

  BlockContext& context_;
  KvPages& kv_;
};

}  // namespace tandem::engine
