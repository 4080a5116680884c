#include "engine/chat/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/chat/ast.h"
#include "engine/chat/evaluator.h"
#include "engine/chat/parser.h"

namespace tandem::engine {
namespace {

class JinjaTemplate final : public ChatTemplate {
 public:
  explicit JinjaTemplate(jinja::Block block) : block_(std::move(block)) {}

  absl::StatusOr<std::string> Render(const ChatInput& input) const override {
    using jinja::Value;
    std::vector<Value> messages;
    for (const ChatMessage& message : input.messages) {
      TANDEM_ASSIGN_OR_RETURN(Value value, Value::MakeDict({{"role", Value::String(message.role)},
                                                            {"content", Value::String(message.content)}}));
      messages.push_back(std::move(value));
    }
    TANDEM_ASSIGN_OR_RETURN(Value list, Value::MakeList(std::move(messages)));
    TANDEM_ASSIGN_OR_RETURN(const Value variables,
                            Value::MakeDict({{"messages", std::move(list)},
                                             {"add_generation_prompt", Value::Bool(input.add_generation_prompt)},
                                             {"bos_token", Value::String(input.bos_token)},
                                             {"eos_token", Value::String(input.eos_token)}}));
    return Render(variables, input.now);
  }

  absl::StatusOr<std::string> Render(const jinja::Value& variables,
                                     std::optional<absl::CivilSecond> now) const override {
    const jinja::Dict* dict = variables.if_dict();
    if (dict == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("the input of a template is a ", variables.TypeName(),
                                                     "; it must be an object with \"messages\" and other variables"));
    }
    jinja::Variables names(dict->entries.begin(), dict->entries.end());
    return jinja::Evaluator(block_, std::move(names), now).Render();
  }

 private:
  const jinja::Block block_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(absl::string_view source) {
  TANDEM_ASSIGN_OR_RETURN(jinja::Block block, jinja::ParseTemplate(source));
  return std::make_unique<JinjaTemplate>(std::move(block));
}

}  // namespace tandem::engine
