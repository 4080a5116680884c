// The feed-forward network of one layer, dense or of experts.
//
//   dense    Wdown (f(Wgate n) * (Wup n)), or Wdown f(Wup n) where it is not gated
//   experts  sum over a token's chosen experts e of w_e FFN_e(n), and the shared experts' FFN where there are any
#pragma once

#include <cstdint>

#include "engine/model/block_context.h"
#include "engine/model/expert_router.h"

namespace tandem::engine {

// Ownership: borrows the context. Threading: owned by the step thread, works on the pool.
class FeedForward {
 public:
  explicit FeedForward(BlockContext& context);

  // What it wants of a layer's input. Experts take theirs from the plain values.
  static InputForms Wants(const LayerWeights& weights) {
    InputForms forms = {&weights.gate, &weights.up, &weights.router};
    if (!weights.router.empty()) forms.Add(ActivationKind::kF32);
    return forms;
  }
  // Adds the result for scratch.normed, prepared, to scratch.hidden.
  void Run(const LayerWeights& weights);

 private:
  void RunExperts(const LayerWeights& weights);
  // scratch.gate = f(gate) * up of the dense FFN, prepared for the product with down.
  void GateAndUp(const LayerWeights& weights);
  void ScaleShared(const LayerWeights& weights, int64_t token);
  void PrepareExpertInput(const LayerWeights& weights);
  void ExpertGateAndUp(const LayerWeights& weights);
  void ExpertDown(const LayerWeights& weights);
  // scratch.projected of one token += its experts' results, in ascending order of the experts' numbers.
  void AddExperts(const LayerWeights& weights, int64_t token);

  BlockContext& context_;
  const KernelTable::Activate activate_;
  ExpertRouter router_;
};

}  // namespace tandem::engine
