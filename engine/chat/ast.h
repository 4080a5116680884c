// The parsed form of a template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/chat/lexer.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

// Nodes nest at most this deep, which bounds the stack of the parser, the evaluator and the destructors.
inline constexpr int kMaxNodeDepth = 200;

enum class ExprKind {
  kLiteral,      // value
  kName,         // name
  kList,         // operands: elements
  kDict,         // operands: key, value, key, value ...
  kUnary,        // name: "not" or "-"; operands: 1
  kBinary,       // name: + - * / // % ~ and or; operands: 2
  kCompare,      // operators between neighbours of operands: == != < <= > >= in "not in"
  kConditional,  // operands: value, condition, value otherwise (which may be missing)
  kAttribute,    // operands[0] . name
  kSubscript,    // operands[0] [ operands[1] ]
  kSlice,        // operands[0] [ 1 : 2 : 3 ], null where left out
  kCall,         // operands[0] ( operands[1..], keywords )
  kFilter,       // operands[0] | name ( operands[1..], keywords )
  kTest,         // operands[0] is name ( operands[1..] ), "is not" if negated
};

struct Expr {
  ExprKind kind;
  Position position;
  int depth = 1;
  std::string name;
  Value value;
  bool negated = false;
  std::vector<std::string> operators;
  std::vector<std::unique_ptr<Expr>> operands;
  std::vector<std::pair<std::string, std::unique_ptr<Expr>>> keywords;
};
using ExprPtr = std::unique_ptr<Expr>;

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

enum class StatementKind {
  kText,      // text
  kOutput,    // value
  kIf,        // branches; a last one without condition is the else
  kFor,       // targets in value, if condition; body, otherwise
  kSet,       // targets = value, or name.field = value
  kSetBlock,  // targets[0] = what body prints
  kMacro,     // macro
  kBreak,
  kContinue,
};

struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // with the default, or null
  Block body;
};

struct Branch {
  ExprPtr condition;  // null: else
  Block body;
};

struct Statement {
  StatementKind kind;
  Position position;
  std::string text;
  std::vector<std::string> targets;
  std::string field;  // kSet of a field of the namespace targets[0]
  ExprPtr value, condition;
  std::vector<Branch> branches;
  Block body, otherwise;
  Macro macro;
};

}  // namespace tandem::engine::jinja
