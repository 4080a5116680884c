// What the grammar fuzzers and the unit tests do with an input: compile it and follow a random text through it. Any
// crash, sanitizer report or broken promise (abort) is a finding. Declared by its users: gbnf_fuzzer.cc,
// json_schema_fuzzer.cc, fuzz_replay_test.cc.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/grammar/grammar.h"

namespace tandem::engine::grammar {
namespace {

void Require(bool promise) {
  if (!promise) std::abort();
}

// All bytes and some pieces, two of them parts of characters.
std::shared_ptr<const TokenTrie> Trie() {
  static const auto* const kTrie = new std::shared_ptr<const TokenTrie>([] {
    std::vector<std::string> texts = {"",     "{\"", "\":", "\",", "[[",   "]]",       "}}",   "null",
                                      "true", " a",  "ab",  "12",  "\xc3", "\xe4\xb8", "\xa9x"};
    for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
    return std::make_shared<const TokenTrie>(std::move(texts));
  }());
  return *kTrie;
}

// A text of at most `steps` tokens, or one that is whole; nullopt if it is neither.
std::optional<std::string> Follow(const std::shared_ptr<Grammar>& grammar, uint32_t seed, int steps) {
  auto matcher = Matcher::Create(grammar, (seed & 1) != 0);
  if (!matcher.ok()) {
    Require(absl::IsInvalidArgument(matcher.status()) || absl::IsResourceExhausted(matcher.status()));
    return std::nullopt;
  }
  std::string text;
  for (int step = 0; step < steps; ++step) {
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < Trie()->vocab_size(); ++token) {
      if (matcher->Allows(token)) allowed.push_back(token);
    }
    Require(allowed.empty() != matcher->any_allowed());
    if (allowed.empty() || (matcher->may_end() && step > 4)) break;
    seed = seed * 1664525 + 1013904223;
    const int32_t token = allowed[(seed >> 8) % allowed.size()];
    const absl::Status accepted = matcher->Accept(token);
    Require(accepted.ok() || absl::IsResourceExhausted(accepted));
    if (!accepted.ok()) return std::nullopt;
    text += Trie()->text(token);
  }
  if (!matcher->may_end()) return std::nullopt;
  return text;
}

}  // namespace

// True if the grammar compiled.
bool FuzzGbnf(absl::string_view text) {
  const auto grammar = Grammar::FromGbnf(text, Trie());
  if (!grammar.ok()) {
    Require(absl::IsInvalidArgument(grammar.status()) && !grammar.status().message().empty());
    return false;
  }
  for (uint32_t seed = 0; seed < 3; ++seed) Follow(*grammar, seed, 24);
  return true;
}

bool FuzzJsonSchema(absl::string_view text) {
  const auto grammar = Grammar::FromJsonSchema(text, Trie());
  if (!grammar.ok()) {
    Require(absl::IsInvalidArgument(grammar.status()) && !grammar.status().message().empty());
    return false;
  }
  for (uint32_t seed = 0; seed < 3; ++seed) {
    const auto document = Follow(*grammar, seed, 48);
    Require(!document || nlohmann::json::accept(*document));
  }
  return true;
}

}  // namespace tandem::engine::grammar
