// Rules as automata over bytes that call one another: a recursive transition network.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {

// States of all rules after one another. Rules that do not call themselves and are small are part of their callers, so
// that what is left of the calls is recursion and large pieces. Immutable.
struct Program {
  // Bytes [first, last] lead to `target`.
  struct Edge {
    uint8_t first, last;
    int32_t target;
  };
  struct State {
    int32_t edges_begin = 0, edges_end = 0;  // into `edges`
    std::array<int32_t, 2> free = {-1, -1};  // states reached without a byte
    int32_t call = -1, call_target = -1;     // the rule to match, and where to go on after it
    bool end = false;                        // the rule is matched
  };
  std::vector<State> states;
  std::vector<Edge> edges;
  std::vector<int32_t> starts;  // of the rules, 0 the root; -1: part of all its callers
  // Bytes that no edge tells apart have one class.
  std::array<uint8_t, 256> class_of{};
  std::vector<uint8_t> class_byte;  // one byte of each class

  int32_t num_classes() const { return static_cast<int32_t>(class_byte.size()); }
};

inline constexpr size_t kMaxProgramStates = 400'000;

// Errors: kInvalidArgument naming the rule: it is left-recursive (it can call itself before any byte, so no match would
// begin), or the whole needs more than kMaxProgramStates, for instance by large repetition counts.
absl::StatusOr<Program> Compile(const RuleSet& rules);

}  // namespace tandem::engine::grammar
