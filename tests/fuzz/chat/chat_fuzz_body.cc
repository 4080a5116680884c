// What the chat template fuzzer and the unit tests do with an input: parse it as a template and render a conversation.
// Any crash, sanitizer report or broken promise (abort) is a finding. Declared by its two users: chat_fuzzer.cc,
// fuzz_replay_test.cc.
#include <cstdlib>

#include "absl/strings/match.h"
#include "engine/chat/budget.h"
#include "engine/chat/chat_template.h"

namespace tandem::engine {
namespace {

void Require(bool promise) {
  if (!promise) std::abort();
}

}  // namespace

// True if the template rendered.
bool FuzzChat(absl::string_view source) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) {
    Require(absl::IsInvalidArgument(parsed.status()));
    Require(absl::StartsWith(parsed.status().message(), "chat template, line "));
    return false;
  }
  const ChatInput input = {.messages = {{"system", "Be kind."},
                                        {"user", " na\xC3\xAFve \xE6\x97\xA5 \xF0\x9F\x98\x80 \xFF\n"},
                                        {"assistant", "<think>x</think>\n12, 3"},
                                        {"user", ""}},
                           .bos_token = "<s>",
                           .eos_token = "</s>",
                           .now = absl::CivilSecond(2024, 7, 26, 12)};
  const auto rendered = (*parsed)->Render(input);
  if (!rendered.ok()) {
    Require(absl::IsInvalidArgument(rendered.status()) || absl::IsResourceExhausted(rendered.status()));
    return false;
  }
  Require(rendered->size() <= jinja::kMaxOutputBytes);
  const auto again = (*parsed)->Render(input);  // rendering leaves nothing behind
  Require(again.ok() && *again == *rendered);
  return true;
}

}  // namespace tandem::engine
