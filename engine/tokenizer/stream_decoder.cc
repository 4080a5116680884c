#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool at_text_start)
    : tokenizer_(tokenizer), strip_space_(at_text_start && tokenizer.strips_leading_space()) {}

std::string StreamDecoder::Push(TokenId id) {
  const std::string piece = tokenizer_.Piece(id);
  if (piece.empty()) return "";
  pending_.append(piece, strip_space_ && piece[0] == ' ' ? 1 : 0, std::string::npos);
  strip_space_ = false;

  std::string text;
  absl::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = ValidUtf8Prefix(rest);
    text.append(rest.data(), valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Step step = NextUtf8(rest);
    if (step.status == Utf8Status::kTruncated) break;  // the next token may complete it
    text.append(kReplacementCharacter.data(), kReplacementCharacter.size());
    rest.remove_prefix(step.bytes);
  }
  pending_ = std::string(rest);
  return text;
}

std::string StreamDecoder::Finish() {
  if (pending_.empty()) return "";
  pending_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace tandem::engine
