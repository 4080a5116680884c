#include "engine/grammar/source_cursor.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine::grammar {

bool SourceCursor::Take(absl::string_view text) {
  if (!absl::StartsWith(text_.substr(at_), text)) return false;
  at_ += text.size();
  return true;
}

absl::StatusOr<char32_t> SourceCursor::TakeChar() {
  if (at_end()) return Error("the text ends where a character is expected");
  const Utf8Step step = NextUtf8(text_.substr(at_));
  if (step.status != Utf8Status::kWhole) return Error("these bytes are not UTF-8");
  at_ += step.bytes;
  return step.code_point;
}

absl::StatusOr<char32_t> SourceCursor::TakeHex(int digits) {
  const size_t begin = at_;
  char32_t value = 0;
  for (int i = 0; i < digits; ++i) {
    const char c = Peek();
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      return ErrorAt(begin, absl::StrCat("the escape needs ", digits, " hexadecimal digits"));
    }
    value = value * 16 + static_cast<char32_t>(digit);
    ++at_;
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return ErrorAt(begin, absl::StrCat("U+", absl::AsciiStrToUpper(Since(begin)), " is no character"));
  }
  return value;
}

absl::StatusOr<int32_t> SourceCursor::TakeNumber(absl::string_view what, int32_t limit) {
  const size_t begin = at_;
  int64_t value = 0;
  while (Peek() >= '0' && Peek() <= '9') {
    value = std::min<int64_t>(value * 10 + (Peek() - '0'), int64_t{limit} + 1);
    ++at_;
  }
  if (at_ == begin) return Error(absl::StrCat("a number is expected for the ", what));
  if (value > limit) {
    return ErrorAt(begin, absl::StrCat("the ", what, " is ", Since(begin).substr(0, 20), "; the limit is ", limit));
  }
  return static_cast<int32_t>(value);
}

std::string SourceCursor::Place(size_t offset) const {
  const absl::string_view before = text_.substr(0, offset);
  const size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const size_t newline = before.rfind('\n');
  const absl::string_view in_line = newline == absl::string_view::npos ? before : before.substr(newline + 1);
  // Continuation bytes belong to the character before them.
  const auto starts = std::count_if(in_line.begin(), in_line.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return absl::StrCat("line ", line, ", column ", starts + 1);
}

absl::Status SourceCursor::ErrorAt(size_t offset, absl::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat(Place(offset), ": ", message));
}

}  // namespace tandem::engine::grammar
