#include "engine/tokenizer/escaped_space.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tandem::engine {

void AppendEscaped(absl::string_view text, std::string* out) {
  for (size_t space = text.find(' '); space != absl::string_view::npos; space = text.find(' ')) {
    out->append(text.data(), space).append(kEscapedSpace.data(), kEscapedSpace.size());
    text.remove_prefix(space + 1);
  }
  out->append(text.data(), text.size());
}

absl::StatusOr<uint8_t> ParseByteToken(absl::string_view spelling, TokenId id) {
  uint32_t byte = 0;
  if (spelling.size() == 6 && spelling.substr(0, 3) == "<0x" && spelling[5] == '>' &&
      absl::SimpleHexAtoi(spelling.substr(3, 2), &byte) && byte < 256) {
    return static_cast<uint8_t>(byte);
  }
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens[", id, "] is \"", spelling,
                                                 "\" of type byte; byte tokens are spelled <0x00> to <0xFF>"));
}

namespace {

std::string Unescaped(absl::string_view spelling) {
  std::string text;
  for (size_t at = spelling.find(kEscapedSpace); at != absl::string_view::npos; at = spelling.find(kEscapedSpace)) {
    text.append(spelling.data(), at).push_back(' ');
    spelling.remove_prefix(at + kEscapedSpace.size());
  }
  return text.append(spelling.data(), spelling.size());
}

}  // namespace

std::string UnescapedPiece(const Vocabulary& vocabulary, TokenId id, bool render_special) {
  if (id < 0 || id >= vocabulary.size()) return "";
  const std::string& spelling = vocabulary.spellings[id];
  switch (vocabulary.types[id]) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return render_special ? spelling : "";
    case TokenType::kUserDefined:
      return spelling;
    case TokenType::kByte: {
      const auto byte = ParseByteToken(spelling, id);  // checked by Create
      return byte.ok() ? std::string(1, static_cast<char>(*byte)) : "";
    }
    case TokenType::kUndefined:
    case TokenType::kNormal:
    case TokenType::kUnused:
      return Unescaped(spelling);
  }
  return "";
}

}  // namespace tandem::engine
