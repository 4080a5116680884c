// A Program run over bytes: a pushdown automaton made deterministic as far as texts reach it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/grammar/program.h"

namespace tandem::engine::grammar {

// Three tables that grow on demand, each numbered from 0:
// - a set is a set of Program states of one rule, closed over free steps: the subset construction, within a rule;
// - a node is (set, node below): a stack of rules under way, the node below being where its caller goes on;
// - a config is a set of nodes that await a byte, and whether the bottom of the stack has been reached.
// Two nodes stand for bottoms: kEmpty under the root rule, and kUnknown for a rule whose caller is left open.
// Equal contents have one number, so what follows from a config can be remembered by its number.
//
// Thread-compatible. Memory and work are bounded: what exceeds them fails (status) and everything is dead from then on.
class Automaton {
 public:
  static constexpr int32_t kEmpty = 0, kUnknown = 1;
  static constexpr int32_t kDead = -1;
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  static constexpr size_t kMaxNodesOfAConfig = 2048;

  explicit Automaton(Program program);

  // The config before the first byte.
  int32_t Start();
  // What `byte` leads to; kDead: nothing. O(1) once known.
  int32_t Next(int32_t config, uint8_t byte) {
    const int32_t next = transitions_[config * num_classes_ + program_.class_of[byte]];
    return next != kNotYet ? next : FindNext(config, program_.class_of[byte]);
  }
  // The bottom of the stack has been reached: of kEmpty, the text may end here.
  bool ReachesBottom(int32_t config) const { return configs_[config].reaches_bottom; }
  const std::vector<int32_t>& Nodes(int32_t config) const { return configs_[config].nodes; }

  int32_t SetOf(int32_t node) const { return nodes_[node].set; }
  int32_t Below(int32_t node) const { return nodes_[node].below; }
  // `set` awaiting its next byte, its caller left open.
  int32_t ConfigOfSet(int32_t set);
  // What is awaited when the rule above `node` has been matched.
  int32_t ConfigAfterReturnTo(int32_t node);

  // Steps that may be taken until the next call, beyond which the automaton fails.
  void AllowWork(int64_t steps) { work_left_ = steps; }
  bool Spend(int64_t steps) {
    work_left_ -= steps;
    if (work_left_ < 0) Fail("the grammar is too ambiguous here: finding what may follow takes too long");
    return status_.ok();
  }
  const absl::Status& status() const { return status_; }  // kResourceExhausted once it has failed
  size_t bytes() const { return bytes_; }

 private:
  static constexpr int32_t kNotYet = -2;

  struct Call {
    int32_t rule, after;  // the set that goes on after the rule
  };
  struct Set {
    std::vector<int32_t> states;  // those with edges, a call or an end
    std::vector<Call> calls;      // once `calls_known`
    bool calls_known = false;
    bool awaits_byte = false;
    bool end = false;
  };
  struct Node {
    int32_t set, below;
  };
  struct Config {
    std::vector<int32_t> nodes;
    bool reaches_bottom = false;
  };

  void Fail(const char* why);
  int32_t FindNext(int32_t config, int32_t byte_class);
  // The set of all that is reached from `states` without a byte; kDead if that is nothing.
  int32_t InternSet(const std::vector<int32_t>& states);
  int32_t NextSet(int32_t set, int32_t byte_class);
  const std::vector<Call>& CallsOf(int32_t set);
  int32_t StartOfRule(int32_t rule);
  int32_t InternNode(int32_t set, int32_t below);
  // The config of all that is reached from `nodes` by calls and returns.
  int32_t Close(std::vector<int32_t> nodes);
  int32_t InternConfig(std::vector<int32_t> nodes, bool reaches_bottom);

  const Program program_;
  const size_t num_classes_;
  std::vector<Set> sets_;
  std::vector<int32_t> set_transitions_;  // [sets, classes]
  std::vector<Node> nodes_;
  std::vector<Config> configs_;
  std::vector<int32_t> transitions_;     // [configs, classes]
  std::vector<int32_t> rule_starts_;     // set by rule; kNotYet
  std::vector<int32_t> return_configs_;  // config by node; kNotYet
  absl::flat_hash_map<std::vector<int32_t>, int32_t> set_numbers_, config_numbers_;
  absl::flat_hash_map<std::pair<int32_t, int32_t>, int32_t> node_numbers_;
  std::vector<uint32_t> state_seen_, node_seen_;  // equal to the round: met in it
  uint32_t round_ = 0;
  int64_t work_left_ = 0;
  size_t bytes_ = 0;
  absl::Status status_;
};

}  // namespace tandem::engine::grammar
