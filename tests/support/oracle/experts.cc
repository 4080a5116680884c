#include "tests/support/oracle/experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tandem::testing::oracle {
namespace {

void Softmax(std::vector<double>* values) {
  double total = 0;
  for (double& value : *values) total += value = std::exp(value);
  for (double& value : *values) value /= total;
}

// Indexes of the `count` largest, the first of equals first.
std::vector<size_t> Best(const std::vector<double>& values, size_t count) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  order.resize(count);
  return order;
}

// Takes the experts of all but the best groups out of the choice.
void LimitToGroups(const Routing& routing, std::vector<double>* choice) {
  if (routing.groups == 1) return;
  const size_t size = choice->size() / routing.groups;
  std::vector<double> worth(routing.groups);
  for (int group = 0; group < routing.groups; ++group) {
    const std::vector<double> members(choice->begin() + group * size, choice->begin() + (group + 1) * size);
    for (size_t best : Best(members, routing.best_of_group)) worth[group] += members[best];
  }
  const std::vector<size_t> kept = Best(worth, routing.groups_used);
  for (size_t expert = 0; expert < choice->size(); ++expert) {
    if (std::find(kept.begin(), kept.end(), expert / size) == kept.end()) {
      (*choice)[expert] = -std::numeric_limits<double>::infinity();
    }
  }
}

struct Chosen {
  size_t expert;
  double weight;
};

std::vector<Chosen> Route(const Layer& layer, const Routing& routing, std::vector<double> scores) {
  if (routing.score == Routing::kSoftmax) Softmax(&scores);
  if (routing.score == Routing::kSigmoid) std::transform(scores.begin(), scores.end(), scores.begin(), Sigmoid);
  std::vector<double> choice = scores;
  if (routing.choose_with_bias) {
    const Tensor bias = layer.Bias("exp_probs_b");
    for (size_t expert = 0; expert < choice.size(); ++expert) choice[expert] += bias.values[expert];
  }
  LimitToGroups(routing, &choice);
  const std::vector<size_t> experts = Best(choice, routing.used);
  std::vector<double> weights;
  for (size_t expert : experts) weights.push_back(scores[expert]);
  if (routing.score == Routing::kSoftmaxOfTheChosen) Softmax(&weights);
  const double total = routing.normalise ? std::accumulate(weights.begin(), weights.end(), 0.0) : 1.0;
  std::vector<Chosen> chosen;
  for (size_t i = 0; i < experts.size(); ++i) chosen.push_back({experts[i], weights[i] / total * routing.scale});
  return chosen;
}

// One of the experts' projections, with its bias where there is one.
Rows ExpertLinear(const Layer& layer, const std::string& name, const Tensor& weight, size_t expert, const Rows& x) {
  Rows y = Linear(weight, x, expert);
  if (layer.HasBias(name)) {
    const Tensor bias = layer.Bias(name);
    for (size_t i = 0; i < y.width; ++i) y.values[i] += bias.row(expert)[i];
  }
  return y;
}

}  // namespace

double SwiGlu(double gate, double up) { return Silu(gate) * up; }

Rows Experts(const Layer& layer, const Rows& x, const Routing& routing, ExpertActivation activation) {
  const Rows logits = Project(layer, "ffn_gate_inp", x);
  const Tensor gates = layer.Weight("ffn_gate_exps"), ups = layer.Weight("ffn_up_exps");
  const Tensor downs = layer.Weight("ffn_down_exps");
  Rows sum(x.count(), x.width);
  for (size_t t = 0; t < x.count(); ++t) {
    Rows token(1, x.width);
    std::copy_n(x.row(t), x.width, token.row(0));
    for (const Chosen& chosen : Route(layer, routing, {logits.row(t), logits.row(t) + logits.width})) {
      Rows middle = ExpertLinear(layer, "ffn_gate_exps", gates, chosen.expert, token);
      const Rows up = ExpertLinear(layer, "ffn_up_exps", ups, chosen.expert, token);
      for (size_t i = 0; i < middle.width; ++i) middle.values[i] = activation(middle.values[i], up.values[i]);
      const Rows out = ExpertLinear(layer, "ffn_down_exps", downs, chosen.expert, middle);
      for (size_t i = 0; i < x.width; ++i) sum.row(t)[i] += chosen.weight * out.values[i];
    }
  }
  return sum;
}

}  // namespace tandem::testing::oracle
