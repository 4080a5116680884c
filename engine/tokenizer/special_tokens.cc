#include "engine/tokenizer/special_tokens.h"

#include <algorithm>

namespace tandem::engine {

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) : nodes_(1) {
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    const bool control = type == TokenType::kControl || type == TokenType::kUnknown;
    if ((!control && type != TokenType::kUserDefined) || vocabulary.spellings[id].empty()) continue;
    int32_t node = 0;
    for (const char c : vocabulary.spellings[id]) {
      const uint8_t byte = static_cast<uint8_t>(c);
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        auto& children = nodes_[node].children;
        const std::pair<uint8_t, int32_t> entry(byte, child);
        children.insert(std::lower_bound(children.begin(), children.end(), entry), entry);
        nodes_.emplace_back();
      }
      node = child;
    }
    // Of two tokens with one spelling the lower id counts.
    if (nodes_[node].token < 0) {
      nodes_[node].token = id;
      nodes_[node].control = control;
    }
    starts_[static_cast<uint8_t>(vocabulary.spellings[id][0])] = true;
  }
}

int32_t SpecialTokens::Child(int32_t node, uint8_t byte) const {
  const auto& children = nodes_[node].children;
  const auto it = std::lower_bound(children.begin(), children.end(), byte,
                                   [](const std::pair<uint8_t, int32_t>& a, uint8_t b) { return a.first < b; });
  return it != children.end() && it->first == byte ? it->second : -1;
}

SpecialTokens::Match SpecialTokens::LongestAt(absl::string_view text, bool parse_special) const {
  Match best;
  int32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = Child(node, static_cast<uint8_t>(text[i]));
    if (node < 0) break;
    if (nodes_[node].token >= 0 && (parse_special || !nodes_[node].control)) best = {nodes_[node].token, i + 1};
  }
  return best;
}

std::vector<SpecialTokens::Fragment> SpecialTokens::Partition(absl::string_view text, bool parse_special) const {
  std::vector<Fragment> fragments;
  size_t plain_start = 0;
  for (size_t pos = 0; pos < text.size();) {
    Match match;
    if (starts_[static_cast<uint8_t>(text[pos])]) match = LongestAt(text.substr(pos), parse_special);
    if (match.bytes == 0) {
      ++pos;
      continue;
    }
    if (pos > plain_start) fragments.push_back({text.substr(plain_start, pos - plain_start), -1});
    fragments.push_back({text.substr(pos, match.bytes), match.token});
    pos += match.bytes;
    plain_start = pos;
  }
  if (plain_start < text.size()) fragments.push_back({text.substr(plain_start), -1});
  return fragments;
}

}  // namespace tandem::engine
