// What the grammar tests share: whole texts against a grammar, byte by byte.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/grammar/grammar.h"

namespace tandem::engine::grammar {

// A vocabulary of the 256 bytes; token = byte.
inline std::shared_ptr<const TokenTrie> ByteTrie() {
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  return std::make_shared<const TokenTrie>(std::move(texts));
}

// "" if `text` is whole; "more" if it is a start; else the part that is matched, then '!'.
inline std::string MatchText(const std::shared_ptr<Grammar>& grammar, const std::string& text) {
  absl::StatusOr<Matcher> matcher = Matcher::Create(grammar, false);
  if (!matcher.ok()) return std::string(matcher.status().message());
  for (size_t i = 0; i < text.size(); ++i) {
    if (!matcher->Accept(static_cast<uint8_t>(text[i])).ok()) return text.substr(0, i) + "!";
  }
  return matcher->may_end() ? "" : "more";
}

inline std::shared_ptr<Grammar> Gbnf(const std::string& text) {
  auto grammar = Grammar::FromGbnf(text, ByteTrie());
  EXPECT_TRUE(grammar.ok()) << grammar.status() << "\n" << text;
  return grammar.ok() ? *grammar : nullptr;
}

inline std::shared_ptr<Grammar> Schema(const std::string& text) {
  auto grammar = Grammar::FromJsonSchema(text, ByteTrie());
  EXPECT_TRUE(grammar.ok()) << grammar.status() << "\n" << text;
  return grammar.ok() ? *grammar : nullptr;
}

inline void ExpectTexts(const std::shared_ptr<Grammar>& grammar, const std::vector<std::string>& whole,
                        const std::vector<std::string>& wrong) {
  ASSERT_NE(grammar, nullptr);
  for (const std::string& text : whole) EXPECT_EQ(MatchText(grammar, text), "") << text;
  for (const std::string& text : wrong) EXPECT_NE(MatchText(grammar, text), "") << text;
}

}  // namespace tandem::engine::grammar
