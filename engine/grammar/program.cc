#include "engine/grammar/program.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/grammar/utf8_ranges.h"

namespace tandem::engine::grammar {
namespace {

// Larger rules are called; tried in turn until the whole fits.
constexpr std::array<int64_t, 3> kInlineStates = {1024, 32, 0};
constexpr int64_t kHuge = int64_t{1} << 40;

// What is known of the rules before any state exists.
class RuleFacts {
 public:
  explicit RuleFacts(const RuleSet& rules) : rules_(rules) {
    FindOrder();
    FindNullable();
  }

  // Callees before callers, but for the calls that close a cycle.
  const std::vector<int32_t>& order() const { return order_; }
  bool recursive(int32_t rule) const { return recursive_[rule]; }
  bool nullable(int32_t rule) const { return nullable_[rule]; }

  // A rule that can call itself before any byte; -1 if none does.
  int32_t LeftRecursive() const {
    std::vector<std::vector<int32_t>> first(rules_.rules.size());
    for (size_t i = 0; i < first.size(); ++i) CollectFirst(rules_.rules[i].body, &first[i]);
    const Components components = FindComponents(first);
    for (size_t i = 0; i < first.size(); ++i) {
      if (components.cyclic[i]) return static_cast<int32_t>(i);
    }
    return -1;
  }

  // About how many states the rule takes with rules of up to `inline_states` made part of it.
  std::vector<int64_t> Sizes(int64_t inline_states) const {
    std::vector<int64_t> sizes(rules_.rules.size(), 0);
    for (const int32_t rule : order_) sizes[rule] = Size(rules_.rules[rule].body, sizes, inline_states);
    return sizes;
  }

 private:
  struct Components {
    std::vector<int32_t> order;  // successors first
    std::vector<bool> cyclic;    // can reach itself
  };

  // Tarjan's strongly connected components, without recursion.
  static Components FindComponents(const std::vector<std::vector<int32_t>>& graph) {
    const int32_t count = static_cast<int32_t>(graph.size());
    Components result;
    result.cyclic.assign(count, false);
    std::vector<int32_t> index(count, -1), low(count, 0), open;
    std::vector<bool> is_open(count, false);
    struct Frame {
      int32_t node;
      size_t next;
    };
    std::vector<Frame> frames;
    int32_t counter = 0;
    for (int32_t root = 0; root < count; ++root) {
      if (index[root] != -1) continue;
      frames.push_back({root, 0});
      while (!frames.empty()) {
        const int32_t node = frames.back().node;
        if (frames.back().next == 0) {
          index[node] = low[node] = counter++;
          open.push_back(node);
          is_open[node] = true;
        }
        if (frames.back().next < graph[node].size()) {
          const int32_t to = graph[node][frames.back().next++];
          if (to == node) result.cyclic[node] = true;
          if (index[to] == -1) {
            frames.push_back({to, 0});
          } else if (is_open[to]) {
            low[node] = std::min(low[node], index[to]);
          }
          continue;
        }
        frames.pop_back();
        if (!frames.empty()) low[frames.back().node] = std::min(low[frames.back().node], low[node]);
        if (low[node] != index[node]) continue;
        const bool several = open.back() != node;
        int32_t member = -1;
        do {
          member = open.back();
          open.pop_back();
          is_open[member] = false;
          if (several) result.cyclic[member] = true;
          result.order.push_back(member);
        } while (member != node);
      }
    }
    return result;
  }

  static void CollectCalls(const Expr& expr, std::vector<int32_t>* calls) {
    if (expr.kind == ExprKind::kRule) calls->push_back(expr.rule);
    for (const Expr& child : expr.children) CollectCalls(child, calls);
  }

  void FindOrder() {
    std::vector<std::vector<int32_t>> calls(rules_.rules.size());
    for (size_t i = 0; i < calls.size(); ++i) {
      CollectCalls(rules_.rules[i].body, &calls[i]);
      std::sort(calls[i].begin(), calls[i].end());
      calls[i].erase(std::unique(calls[i].begin(), calls[i].end()), calls[i].end());
    }
    Components components = FindComponents(calls);
    order_ = std::move(components.order);
    recursive_ = std::move(components.cyclic);
  }

  bool Nullable(const Expr& expr) const {
    const auto nullable = [this](const Expr& child) { return Nullable(child); };
    switch (expr.kind) {
      case ExprKind::kEmpty:
        return true;
      case ExprKind::kChars:
        return false;
      case ExprKind::kSequence:
        return std::all_of(expr.children.begin(), expr.children.end(), nullable);
      case ExprKind::kChoice:
        return std::any_of(expr.children.begin(), expr.children.end(), nullable);
      case ExprKind::kRepeat:
        return expr.min == 0 || Nullable(expr.children[0]);
      case ExprKind::kRule:
        return nullable_[expr.rule];
    }
    return false;
  }

  void FindNullable() {
    nullable_.assign(rules_.rules.size(), false);
    // In this order one round settles all but cycles.
    for (bool changed = true; changed;) {
      changed = false;
      for (const int32_t rule : order_) {
        if (nullable_[rule] || !Nullable(rules_.rules[rule].body)) continue;
        nullable_[rule] = changed = true;
      }
    }
  }

  // Rules that `expr` may call before any byte.
  void CollectFirst(const Expr& expr, std::vector<int32_t>* first) const {
    if (expr.kind == ExprKind::kRule) first->push_back(expr.rule);
    for (const Expr& child : expr.children) {
      CollectFirst(child, first);
      if (expr.kind == ExprKind::kSequence && !Nullable(child)) break;
    }
  }

  int64_t Size(const Expr& expr, const std::vector<int64_t>& sizes, int64_t inline_states) const {
    if (expr.kind == ExprKind::kChars) return expr.ranges.empty() || expr.ranges.back().last < 0x80 ? 1 : 8;
    if (expr.kind == ExprKind::kRule) {
      return recursive_[expr.rule] || sizes[expr.rule] > inline_states ? 1 : sizes[expr.rule] + 1;
    }
    int64_t size = 1;
    for (const Expr& child : expr.children) size = std::min(kHuge, size + Size(child, sizes, inline_states));
    if (expr.kind == ExprKind::kRepeat) {
      size = std::min(kHuge, size * std::max(1, expr.max == kUnbounded ? expr.min + 1 : expr.max));
    }
    return size;
  }

  const RuleSet& rules_;
  std::vector<int32_t> order_;
  std::vector<bool> recursive_, nullable_;
};

// Thompson's construction. Runs into `full()` rather than beyond the limit.
class Builder {
 public:
  Builder(const RuleSet& rules, const RuleFacts& facts, int64_t inline_states)
      : rules_(rules), facts_(facts), sizes_(facts.Sizes(inline_states)), inline_states_(inline_states) {}

  // The rule in whose body the limit was reached; -1 if it was not.
  int32_t BuildAll() {
    program_.starts.assign(rules_.rules.size(), -1);
    for (size_t i = 0; i < rules_.rules.size(); ++i) {
      const int32_t rule = static_cast<int32_t>(i);
      if (i != 0 && IsInlined(rule)) continue;
      program_.starts[i] = NewState();
      const int32_t end = Build(rules_.rules[i].body, program_.starts[i]);
      if (full_) return rule;
      program_.states[end].end = true;
    }
    FindClasses();
    return -1;
  }
  Program TakeProgram() { return std::move(program_); }

 private:
  bool IsInlined(int32_t rule) const { return !facts_.recursive(rule) && sizes_[rule] <= inline_states_; }

  int32_t NewState() {
    if (program_.states.size() >= kMaxProgramStates) {
      full_ = true;
      return 0;
    }
    program_.states.emplace_back();
    return static_cast<int32_t>(program_.states.size()) - 1;
  }

  void AddFree(int32_t from, int32_t to) {
    std::array<int32_t, 2>& free = program_.states[from].free;
    free[free[0] == -1 ? 0 : 1] = to;
  }

  // Adds what matches `expr` from `entry`, a state without ways out, and returns the state where it ends, which has
  // none either.
  int32_t Build(const Expr& expr, int32_t entry) {
    if (full_) return 0;
    switch (expr.kind) {
      case ExprKind::kEmpty:
        return entry;
      case ExprKind::kChars:
        return BuildChars(expr.ranges, entry);
      case ExprKind::kSequence:
        for (const Expr& child : expr.children) entry = Build(child, entry);
        return entry;
      case ExprKind::kChoice:
        return BuildChoice(expr, entry);
      case ExprKind::kRepeat:
        return BuildRepeat(expr, entry);
      case ExprKind::kRule:
        return BuildRule(expr.rule, entry);
    }
    return entry;
  }

  int32_t BuildRule(int32_t rule, int32_t entry) {
    if (IsInlined(rule)) return Build(rules_.rules[rule].body, entry);
    const int32_t exit = NewState();
    program_.states[entry].call = rule;
    program_.states[entry].call_target = exit;
    return exit;
  }

  int32_t BuildChoice(const Expr& expr, int32_t entry) {
    const int32_t exit = NewState();
    for (size_t i = 0; i < expr.children.size() && !full_; ++i) {
      const int32_t begin = NewState();
      AddFree(entry, begin);
      AddFree(Build(expr.children[i], begin), exit);
      if (i + 1 == expr.children.size()) break;
      const int32_t others = NewState();
      AddFree(entry, others);
      entry = others;
    }
    return exit;
  }

  int32_t BuildRepeat(const Expr& expr, int32_t entry) {
    const Expr& child = expr.children[0];
    for (int32_t i = 0; i < expr.min && !full_; ++i) entry = Build(child, Step(entry));
    const int32_t exit = NewState();
    if (expr.max == kUnbounded) {
      const int32_t loop = Step(entry), begin = NewState();
      AddFree(loop, begin);
      AddFree(loop, exit);
      const int32_t end = Build(child, begin);
      if (!full_) AddFree(Step(end), loop);
      return exit;
    }
    for (int32_t i = expr.min; i < expr.max && !full_; ++i) {
      const int32_t begin = NewState();
      AddFree(entry, begin);
      AddFree(entry, exit);
      entry = Step(Build(child, begin));
    }
    AddFree(entry, exit);
    return exit;
  }

  // A new state that `from` leads to. Also bounds the repetition of what takes no states of its own.
  int32_t Step(int32_t from) {
    const int32_t to = NewState();
    AddFree(from, to);
    return to;
  }

  int32_t BuildChars(const std::vector<CharRange>& ranges, int32_t entry) {
    std::vector<ByteSequence> sequences;
    for (const CharRange range : ranges) AppendByteSequences(range, &sequences);
    const int32_t exit = NewState();
    // States of the bytes after the first; what has the same edge is the same state.
    struct Tail {
      Program::Edge edge;
      int32_t state;
    };
    std::vector<Tail> tails;
    std::vector<Program::Edge> first_edges;
    for (const ByteSequence& sequence : sequences) {
      int32_t target = exit;
      for (int i = sequence.length - 1; i > 0 && !full_; --i) {
        const Program::Edge edge{sequence.first[i], sequence.last[i], target};
        const auto it = std::find_if(tails.begin(), tails.end(), [&](const Tail& tail) {
          return tail.edge.first == edge.first && tail.edge.last == edge.last && tail.edge.target == edge.target;
        });
        target = it != tails.end() ? it->state : NewState();
        if (it != tails.end()) continue;
        tails.push_back({edge, target});
        SetEdges(target, {edge});
      }
      first_edges.push_back({sequence.first[0], sequence.last[0], target});
    }
    SetEdges(entry, first_edges);
    return exit;
  }

  void SetEdges(int32_t state, const std::vector<Program::Edge>& edges) {
    if (full_) return;
    program_.states[state].edges_begin = static_cast<int32_t>(program_.edges.size());
    program_.edges.insert(program_.edges.end(), edges.begin(), edges.end());
    program_.states[state].edges_end = static_cast<int32_t>(program_.edges.size());
  }

  void FindClasses() {
    std::array<bool, 257> begins{};
    begins[0] = true;
    for (const Program::Edge& edge : program_.edges) begins[edge.first] = begins[edge.last + 1] = true;
    for (int byte = 0; byte < 256; ++byte) {
      if (begins[byte]) program_.class_byte.push_back(static_cast<uint8_t>(byte));
      program_.class_of[byte] = static_cast<uint8_t>(program_.class_byte.size() - 1);
    }
  }

  const RuleSet& rules_;
  const RuleFacts& facts_;
  const std::vector<int64_t> sizes_;
  const int64_t inline_states_;
  Program program_;
  bool full_ = false;
};

}  // namespace

absl::StatusOr<Program> Compile(const RuleSet& rules) {
  const RuleFacts facts(rules);
  if (const int32_t rule = facts.LeftRecursive(); rule != -1) {
    return absl::InvalidArgumentError(
        absl::StrCat(rules.rules[rule].name,
                     " is left-recursive: it can begin with itself, so that no match would ever start; put what it ",
                     "repeats first, or use * or +"));
  }
  int32_t where = -1;
  for (const int64_t inline_states : kInlineStates) {
    Builder builder(rules, facts, inline_states);
    where = builder.BuildAll();
    if (where == -1) return builder.TakeProgram();
  }
  return absl::InvalidArgumentError(absl::StrCat("the automaton has more than ", kMaxProgramStates, " states at ",
                                                 rules.rules[where].name, "; lower the repetition counts"));
}

}  // namespace tandem::engine::grammar
