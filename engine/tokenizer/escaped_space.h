// The spelling rules that SentencePiece's vocabularies share: U+2581 stands for a space, <0xAB> for a byte.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

inline constexpr absl::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581

// Appends `text` with its spaces escaped.
void AppendEscaped(absl::string_view text, std::string* out);

// The byte of a token spelled "<0xAB>". Errors: kInvalidArgument naming the token.
absl::StatusOr<uint8_t> ParseByteToken(absl::string_view spelling, TokenId id);

// Tokenizer::Piece of such a vocabulary, whose byte tokens have been checked.
std::string UnescapedPiece(const Vocabulary& vocabulary, TokenId id, bool render_special);

}  // namespace tandem::engine
