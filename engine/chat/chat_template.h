// Renders a conversation into the prompt text that the model was trained on, by the Jinja template in the model file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"
#include "engine/chat/value.h"

namespace tandem::engine {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

struct ChatInput {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;     // end with the start of the assistant's turn
  std::string bos_token, eos_token;      // spelled out, as templates print them
  std::optional<absl::CivilSecond> now;  // what strftime_now prints; templates without it fall back on a fixed date
};

// A parsed template. Sandboxed: it sees its inputs only, and its steps, depth and output are bounded. Immutable, hence
// thread-safe.
class ChatTemplate {
 public:
  // Errors: kInvalidArgument (syntax; the message has line and column).
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(absl::string_view source);
  virtual ~ChatTemplate() = default;
  // Errors: kInvalidArgument (the template raised an error, or an operation does not fit its operands; with line),
  // kResourceExhausted (a bound was hit).
  virtual absl::StatusOr<std::string> Render(const ChatInput& input) const = 0;
  // The same with variables of the caller's choice, each an entry of `variables`, a dict ("messages", "tools",
  // "bos_token"...). Errors: also kInvalidArgument (no dict).
  virtual absl::StatusOr<std::string> Render(const jinja::Value& variables,
                                             std::optional<absl::CivilSecond> now) const = 0;
};

}  // namespace tandem::engine
