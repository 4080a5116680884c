#include "engine/chat/parser.h"

#include <algorithm>
#include <initializer_list>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/chat/expression_parser.h"
#include "engine/chat/token_cursor.h"

namespace tandem::engine::jinja {
namespace {

using StatementPtr = std::unique_ptr<Statement>;

class TemplateParser {
 public:
  explicit TemplateParser(std::vector<Token> tokens) : cursor_(std::move(tokens)), expressions_(cursor_) {}

  absl::StatusOr<Block> Run() {
    TANDEM_ASSIGN_OR_RETURN(Block block, ParseBlock({}));
    if (!cursor_.At(TokenKind::kEnd)) {  // at a name that ends a block which is not open
      return ErrorAt(cursor_.current().position,
                     absl::StrCat("unexpected {% ", cursor_.current().text, " %}: no such block is open"));
    }
    return block;
  }

 private:
  // Statements up to a block tag whose name is in `ends`; the cursor then stands on that name. Without `ends`, up to
  // the end of the source.
  absl::StatusOr<Block> ParseBlock(std::initializer_list<absl::string_view> ends) {
    Block block;
    while (!cursor_.At(TokenKind::kEnd)) {
      const Position position = cursor_.current().position;
      if (cursor_.At(TokenKind::kText)) {
        auto text = Make(StatementKind::kText, position);
        text->text = cursor_.current().text;
        cursor_.Advance();
        block.push_back(std::move(text));
      } else if (cursor_.At(TokenKind::kOutputBegin)) {
        cursor_.Advance();
        auto output = Make(StatementKind::kOutput, position);
        TANDEM_ASSIGN_OR_RETURN(output->value, expressions_.ParseTuple());
        TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kOutputEnd, "\"}}\""));
        block.push_back(std::move(output));
      } else {
        TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kBlockBegin, "a tag"));
        if (!cursor_.At(TokenKind::kName)) return cursor_.Unexpected("the name of a statement");
        const std::string& name = cursor_.current().text;
        if (std::find(ends.begin(), ends.end(), name) != ends.end()) return block;
        if (name == "else" || name == "elif" || name.rfind("end", 0) == 0) {
          return ErrorAt(position, absl::StrCat("{% ", name, " %} does not fit here"));
        }
        TANDEM_ASSIGN_OR_RETURN(StatementPtr statement, ParseStatement(position));
        if (statement != nullptr) block.push_back(std::move(statement));
      }
    }
    if (ends.size() == 0) return block;
    return ErrorAt(cursor_.current().position, absl::StrCat("the template ends before {% ", *(ends.end() - 1), " %}"));
  }

  absl::StatusOr<StatementPtr> ParseStatement(Position position) {
    if (depth_ >= kMaxNodeDepth) {
      return ErrorAt(position, absl::StrCat("statements nest deeper than ", kMaxNodeDepth, " levels"));
    }
    ++depth_;
    absl::StatusOr<StatementPtr> statement = ParseNamed(position);
    --depth_;
    return statement;
  }

  absl::StatusOr<StatementPtr> ParseNamed(Position position) {
    const std::string name = cursor_.current().text;
    cursor_.Advance();
    if (name == "if") return ParseIf(position);
    if (name == "for") return ParseFor(position);
    if (name == "set") return ParseSet(position);
    if (name == "macro") return ParseMacro(position);
    if (name == "generation") return ParseGeneration(position);
    if (name == "break" || name == "continue") {
      if (loops_ == 0) return ErrorAt(position, absl::StrCat("{% ", name, " %} outside a for"));
      auto statement = Make(name == "break" ? StatementKind::kBreak : StatementKind::kContinue, position);
      TANDEM_RETURN_IF_ERROR(EndTag());
      return statement;
    }
    return ErrorAt(position, absl::StrCat("the statement {% ", name, " %} is not supported"));
  }

  absl::StatusOr<StatementPtr> ParseIf(Position position) {
    auto statement = Make(StatementKind::kIf, position);
    bool more = true;
    while (more) {
      Branch branch;
      TANDEM_ASSIGN_OR_RETURN(branch.condition, expressions_.ParseTuple());
      TANDEM_RETURN_IF_ERROR(EndTag());
      TANDEM_ASSIGN_OR_RETURN(branch.body, ParseBlock({"elif", "else", "endif"}));
      statement->branches.push_back(std::move(branch));
      more = cursor_.TakeName("elif");
    }
    if (cursor_.TakeName("else")) {
      TANDEM_RETURN_IF_ERROR(EndTag());
      Branch branch;
      TANDEM_ASSIGN_OR_RETURN(branch.body, ParseBlock({"endif"}));
      statement->branches.push_back(std::move(branch));
    }
    cursor_.Advance();  // endif
    TANDEM_RETURN_IF_ERROR(EndTag());
    return statement;
  }

  // What the model is trained to say is marked so; it prints like all else.
  absl::StatusOr<StatementPtr> ParseGeneration(Position position) {
    auto statement = Make(StatementKind::kIf, position);
    TANDEM_RETURN_IF_ERROR(EndTag());
    statement->branches.emplace_back();
    TANDEM_ASSIGN_OR_RETURN(statement->branches[0].body, ParseBlock({"endgeneration"}));
    cursor_.Advance();
    TANDEM_RETURN_IF_ERROR(EndTag());
    return statement;
  }

  absl::StatusOr<StatementPtr> ParseFor(Position position) {
    auto statement = Make(StatementKind::kFor, position);
    TANDEM_ASSIGN_OR_RETURN(statement->targets, ParseTargets());
    if (!cursor_.TakeName("in")) return cursor_.Unexpected("\"in\"");
    TANDEM_ASSIGN_OR_RETURN(statement->value, expressions_.ParseOr());
    if (cursor_.TakeName("if")) {
      TANDEM_ASSIGN_OR_RETURN(statement->condition, expressions_.Parse());
    }
    if (cursor_.AtName("recursive")) return ErrorAt(cursor_.current().position, "a recursive for is not supported");
    TANDEM_RETURN_IF_ERROR(EndTag());
    ++loops_;
    TANDEM_ASSIGN_OR_RETURN(statement->body, ParseBlock({"else", "endfor"}));
    --loops_;
    if (cursor_.TakeName("else")) {
      TANDEM_RETURN_IF_ERROR(EndTag());
      TANDEM_ASSIGN_OR_RETURN(statement->otherwise, ParseBlock({"endfor"}));
    }
    cursor_.Advance();  // endfor
    TANDEM_RETURN_IF_ERROR(EndTag());
    return statement;
  }

  absl::StatusOr<StatementPtr> ParseSet(Position position) {
    auto statement = Make(StatementKind::kSet, position);
    TANDEM_ASSIGN_OR_RETURN(statement->targets, ParseTargets());
    if (cursor_.TakeOperator(".")) {
      if (statement->targets.size() != 1) return cursor_.Unexpected("\"=\"");
      statement->field = cursor_.current().text;
      TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kName, "the name of a field"));
    }
    if (cursor_.TakeOperator("=")) {
      TANDEM_ASSIGN_OR_RETURN(statement->value, expressions_.ParseTuple());
      TANDEM_RETURN_IF_ERROR(EndTag());
      return statement;
    }
    if (!cursor_.At(TokenKind::kBlockEnd) || statement->targets.size() != 1 || !statement->field.empty()) {
      return cursor_.Unexpected("\"=\"");
    }
    cursor_.Advance();
    statement->kind = StatementKind::kSetBlock;
    TANDEM_ASSIGN_OR_RETURN(statement->body, ParseBlock({"endset"}));
    cursor_.Advance();
    TANDEM_RETURN_IF_ERROR(EndTag());
    return statement;
  }

  absl::StatusOr<StatementPtr> ParseMacro(Position position) {
    auto statement = Make(StatementKind::kMacro, position);
    Macro& macro = statement->macro;
    macro.name = cursor_.current().text;
    TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kName, "the name of a macro"));
    TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator("("));
    while (!cursor_.TakeOperator(")")) {
      if (!macro.parameters.empty()) TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(","));
      std::string parameter = cursor_.current().text;
      TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kName, "the name of a parameter"));
      ExprPtr fallback;
      if (cursor_.TakeOperator("=")) {
        TANDEM_ASSIGN_OR_RETURN(fallback, expressions_.Parse());
      }
      macro.parameters.emplace_back(std::move(parameter), std::move(fallback));
    }
    TANDEM_RETURN_IF_ERROR(EndTag());
    const int outer_loops = loops_;  // a break inside the macro cannot leave a loop around it
    loops_ = 0;
    TANDEM_ASSIGN_OR_RETURN(macro.body, ParseBlock({"endmacro"}));
    loops_ = outer_loops;
    cursor_.Advance();
    TANDEM_RETURN_IF_ERROR(EndTag());
    return statement;
  }

  // "a" or "a, b" or "(a, b)".
  absl::StatusOr<std::vector<std::string>> ParseTargets() {
    const bool parenthesis = cursor_.TakeOperator("(");
    std::vector<std::string> targets;
    do {
      targets.push_back(cursor_.current().text);
      TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kName, "the name of a variable"));
    } while (cursor_.TakeOperator(","));
    if (parenthesis) TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(")"));
    return targets;
  }

  absl::Status EndTag() { return cursor_.Expect(TokenKind::kBlockEnd, "\"%}\""); }

  static StatementPtr Make(StatementKind kind, Position position) {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->position = position;
    return statement;
  }

  TokenCursor cursor_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;  // that are open around the cursor
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(absl::string_view source) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return TemplateParser(std::move(tokens)).Run();
}

}  // namespace tandem::engine::jinja
