#include "engine/chat/chat_template.h"

#include <utility>

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
    jinja::Variables variables;
    TANDEM_ASSIGN_OR_RETURN(variables["messages"], Value::MakeList(std::move(messages)));
    variables["add_generation_prompt"] = Value::Bool(input.add_generation_prompt);
    variables["bos_token"] = Value::String(input.bos_token);
    variables["eos_token"] = Value::String(input.eos_token);
    return jinja::Evaluator(block_, std::move(variables), input.now).Render();
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
