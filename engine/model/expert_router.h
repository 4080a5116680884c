// Which experts each token of a step goes through, with which weight, and the tokens in the order of their experts.
#pragma once

#include <cstdint>

#include "engine/model/layer_weights.h"
#include "engine/model/model_spec.h"
#include "engine/model/scratch.h"

namespace tandem::engine {

// A token's choice depends on its own scores alone, so batch mates change nothing. Scores are compared as computed; of
// equal ones the expert with the lower number is taken. Ownership: borrows both arguments. Threading: Choose may run in
// several threads for different tokens; Group is called by one.
class ExpertRouter {
 public:
  ExpertRouter(const ExpertSpec& spec, Scratch& scratch) : spec_(spec), scratch_(scratch) {}

  // From the router's outputs in scratch.expert_scores, which it spoils, to scratch.expert_ids, ascending, and
  // scratch.expert_weights of `token`.
  void Choose(const LayerWeights& weights, int64_t token);
  // Rows for the tokens' choices, sorted by expert and then by token: fills scratch.expert_rows, expert_begin,
  // row_tokens and active_experts.
  void Group(int64_t tokens);
  int64_t active() const { return active_; }  // experts that some token chose

 private:
  // scores become what the chosen experts are weighed by.
  void Activate(float* scores) const;
  // Takes the experts of the groups not chosen out of `selection`.
  void LimitGroups(float* selection, float* group_scores) const;
  void Weigh(const float* scores, const int32_t* ids, float* weights) const;

  const ExpertSpec& spec_;
  Scratch& scratch_;
  int64_t active_ = 0;
};

}  // namespace tandem::engine
