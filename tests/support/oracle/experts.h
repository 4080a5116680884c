// Mixtures of experts: which ones a token gets, and their sum.
#pragma once

#include "tests/support/oracle/blocks.h"

namespace tandem::testing::oracle {

// The router gives each expert a logit, ffn_gate_inp x. Scores come from the logits, the best `used` experts are chosen
// by score, and their outputs are added with their scores as weights.
struct Routing {
  enum Score {
    kSoftmax,             // over all experts
    kSigmoid,             // of each
    kSoftmaxOfTheChosen,  // the logits choose, the softmax goes over the chosen
  };
  Score score = kSoftmax;
  int used = 0;
  bool choose_with_bias =
      false;  // exp_probs_b is added to the scores to choose, not to weigh (DeepSeek V3, section 2.1.2)
  // Only the best `groups_used` of `groups` equal runs of experts are chosen from. A group counts as much as its best
  // expert (DeepSeek V2) or as the sum of its best two (V3).
  int groups = 1;
  int groups_used = 1;
  int best_of_group = 2;
  bool normalise = false;  // weights of the chosen sum to 1
  double scale = 1;        // of the weights, at last
};

// An expert's output from its gate and up projections.
using ExpertActivation = double (*)(double gate, double up);
double SwiGlu(double gate, double up);

// Tensors ffn_gate_inp and ffn_{gate,up,down}_exps, biases where the layer has them.
Rows Experts(const Layer& layer, const Rows& x, const Routing& routing, ExpertActivation activation = SwiGlu);

}  // namespace tandem::testing::oracle
