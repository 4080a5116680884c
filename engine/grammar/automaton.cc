#include "engine/grammar/automaton.h"

#include <algorithm>
#include <utility>

namespace tandem::engine::grammar {

Automaton::Automaton(Program program)
    : program_(std::move(program)), num_classes_(static_cast<size_t>(program_.num_classes())) {
  nodes_ = {{-1, -1}, {-1, -1}};
  return_configs_ = {kNotYet, kNotYet};
  node_seen_ = {0, 0};
  rule_starts_.assign(program_.starts.size(), kNotYet);
  state_seen_.assign(program_.states.size(), 0);
  bytes_ = program_.states.size() * (sizeof(Program::State) + sizeof(uint32_t)) +
           program_.edges.size() * sizeof(Program::Edge);
}

void Automaton::Fail(const char* why) {
  if (status_.ok()) status_ = absl::ResourceExhaustedError(why);
}

int32_t Automaton::Start() {
  const int32_t set = StartOfRule(0);
  return set == kDead ? kDead : Close({InternNode(set, kEmpty)});
}

int32_t Automaton::ConfigOfSet(int32_t set) { return InternConfig({InternNode(set, kUnknown)}, false); }

int32_t Automaton::ConfigAfterReturnTo(int32_t node) {
  if (return_configs_[node] == kNotYet) {
    const int32_t config = Close({node});
    return_configs_[node] = config;
  }
  return return_configs_[node];
}

int32_t Automaton::FindNext(int32_t config, int32_t byte_class) {
  std::vector<int32_t> reached;
  // By index: the tables grow in the loop.
  for (size_t i = 0; i < configs_[config].nodes.size(); ++i) {
    const Node node = nodes_[configs_[config].nodes[i]];
    const int32_t set = NextSet(node.set, byte_class);
    if (set != kDead) reached.push_back(InternNode(set, node.below));
  }
  const int32_t next = reached.empty() ? kDead : Close(std::move(reached));
  if (!status_.ok()) return kDead;
  transitions_[static_cast<size_t>(config) * num_classes_ + static_cast<size_t>(byte_class)] = next;
  return next;
}

int32_t Automaton::InternSet(const std::vector<int32_t>& states) {
  std::vector<int32_t> open = states, kept;
  ++round_;
  bool awaits_byte = false, end = false;
  while (!open.empty()) {
    const int32_t number = open.back();
    open.pop_back();
    if (state_seen_[number] == round_) continue;
    state_seen_[number] = round_;
    if (!Spend(1)) return kDead;
    const Program::State& state = program_.states[number];
    for (const int32_t to : state.free) {
      if (to != -1) open.push_back(to);
    }
    const bool has_edges = state.edges_begin != state.edges_end;
    if (has_edges || state.call != -1 || state.end) kept.push_back(number);
    awaits_byte |= has_edges;
    end |= state.end;
  }
  if (kept.empty()) return kDead;
  std::sort(kept.begin(), kept.end());
  const auto [it, added] = set_numbers_.try_emplace(kept, static_cast<int32_t>(sets_.size()));
  if (!added) return it->second;
  bytes_ += 2 * kept.size() * sizeof(int32_t) + sizeof(Set) + num_classes_ * sizeof(int32_t) + 64;
  sets_.push_back({std::move(kept), {}, false, awaits_byte, end});
  set_transitions_.resize(sets_.size() * num_classes_, kNotYet);
  if (bytes_ > kMaxBytes) Fail("the grammar needs too much memory");
  return it->second;
}

int32_t Automaton::NextSet(int32_t set, int32_t byte_class) {
  const size_t slot = static_cast<size_t>(set) * num_classes_ + static_cast<size_t>(byte_class);
  if (set_transitions_[slot] != kNotYet) return set_transitions_[slot];
  const uint8_t byte = program_.class_byte[byte_class];
  std::vector<int32_t> targets;
  for (const int32_t number : sets_[set].states) {
    const Program::State& state = program_.states[number];
    for (int32_t e = state.edges_begin; e < state.edges_end; ++e) {
      const Program::Edge& edge = program_.edges[e];
      if (edge.first <= byte && byte <= edge.last) targets.push_back(edge.target);
    }
    if (!Spend(1 + state.edges_end - state.edges_begin)) return kDead;
  }
  const int32_t next = targets.empty() ? kDead : InternSet(targets);
  if (status_.ok()) set_transitions_[slot] = next;
  return next;
}

const std::vector<Automaton::Call>& Automaton::CallsOf(int32_t set) {
  if (!sets_[set].calls_known) {
    // Calls of one rule go on together, so that what they had in common is not matched twice.
    std::vector<std::pair<int32_t, int32_t>> targets;  // rule, state after it
    for (const int32_t number : sets_[set].states) {
      const Program::State& state = program_.states[number];
      if (state.call != -1) targets.emplace_back(state.call, state.call_target);
    }
    std::sort(targets.begin(), targets.end());
    std::vector<Call> calls;
    for (size_t i = 0; i < targets.size();) {
      std::vector<int32_t> after;
      const int32_t rule = targets[i].first;
      for (; i < targets.size() && targets[i].first == rule; ++i) after.push_back(targets[i].second);
      const int32_t after_set = InternSet(after);
      if (after_set != kDead) calls.push_back({rule, after_set});
    }
    sets_[set].calls = std::move(calls);
    sets_[set].calls_known = true;
  }
  return sets_[set].calls;
}

int32_t Automaton::StartOfRule(int32_t rule) {
  if (rule_starts_[rule] == kNotYet) {
    const int32_t set = InternSet({program_.starts[rule]});
    rule_starts_[rule] = set;
  }
  return rule_starts_[rule];
}

int32_t Automaton::InternNode(int32_t set, int32_t below) {
  const auto [it, added] = node_numbers_.try_emplace({set, below}, static_cast<int32_t>(nodes_.size()));
  if (added) {
    nodes_.push_back({set, below});
    node_seen_.push_back(0);
    return_configs_.push_back(kNotYet);
    bytes_ += 48;
    if (bytes_ > kMaxBytes) Fail("the grammar needs too much memory");
  }
  return it->second;
}

int32_t Automaton::Close(std::vector<int32_t> nodes) {
  // InternSet has rounds of its own, so the nodes met are kept apart.
  std::vector<int32_t> met, awaiting;
  bool reaches_bottom = false;
  const auto mark = [&](int32_t node) {
    if (node_seen_[node] != 0) return false;
    node_seen_[node] = 1;
    met.push_back(node);
    return true;
  };
  while (!nodes.empty()) {
    const int32_t number = nodes.back();
    nodes.pop_back();
    if (number <= kUnknown) {
      reaches_bottom = true;
      continue;
    }
    if (!mark(number)) continue;
    if (!Spend(1)) break;
    const Node node = nodes_[number];
    if (sets_[node.set].awaits_byte) awaiting.push_back(number);
    if (sets_[node.set].end) nodes.push_back(node.below);
    const std::vector<Call> calls = CallsOf(node.set);
    for (const Call& call : calls) {
      const int32_t start = StartOfRule(call.rule);
      if (start == kDead) continue;
      // A rule that is the last thing its caller does returns to the caller's caller: right recursion needs no stack.
      const Set& after = sets_[call.after];
      const bool last = after.end && !after.awaits_byte && after.states.size() == 1;
      nodes.push_back(InternNode(start, last ? node.below : InternNode(call.after, node.below)));
    }
  }
  for (const int32_t node : met) node_seen_[node] = 0;
  if (awaiting.size() > kMaxNodesOfAConfig) Fail("the grammar is too ambiguous here");
  if (!status_.ok() || (awaiting.empty() && !reaches_bottom)) return kDead;
  return InternConfig(std::move(awaiting), reaches_bottom);
}

int32_t Automaton::InternConfig(std::vector<int32_t> nodes, bool reaches_bottom) {
  std::sort(nodes.begin(), nodes.end());
  std::vector<int32_t> key = nodes;
  key.push_back(reaches_bottom ? -1 : -2);
  const auto [it, added] = config_numbers_.try_emplace(std::move(key), static_cast<int32_t>(configs_.size()));
  if (added) {
    bytes_ += (2 * nodes.size() + num_classes_) * sizeof(int32_t) + sizeof(Config) + 64;
    configs_.push_back({std::move(nodes), reaches_bottom});
    transitions_.resize(configs_.size() * num_classes_, kNotYet);
    if (bytes_ > kMaxBytes) Fail("the grammar needs too much memory");
  }
  return it->second;
}

}  // namespace tandem::engine::grammar
