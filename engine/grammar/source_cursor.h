// A place in a text that a grammar or a pattern is parsed from.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine::grammar {

// Reads characters of a text that must be UTF-8. Borrows the text. Errors are kInvalidArgument with line and column
// (from 1, counted in characters).
class SourceCursor {
 public:
  explicit SourceCursor(absl::string_view text) : text_(text) {}

  bool at_end() const { return at_ >= text_.size(); }
  // The byte `ahead` of here; 0 beyond the end.
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  // Consumes `text` if it is next.
  bool Take(absl::string_view text);
  void Skip() { ++at_; }  // one byte; not at the end
  // The next character. Errors: the end, or bytes that are no character.
  absl::StatusOr<char32_t> TakeChar();
  // `digits` hexadecimal digits.
  absl::StatusOr<char32_t> TakeHex(int digits);
  // A decimal number of at most `limit`. Errors: no digit, or beyond the limit; `what` names it.
  absl::StatusOr<int32_t> TakeNumber(absl::string_view what, int32_t limit);

  size_t offset() const { return at_; }
  absl::string_view Since(size_t offset) const { return text_.substr(offset, at_ - offset); }
  std::string Place(size_t offset) const;  // "line 3, column 7"
  absl::Status Error(absl::string_view message) const { return ErrorAt(at_, message); }
  absl::Status ErrorAt(size_t offset, absl::string_view message) const;

 private:
  absl::string_view text_;
  size_t at_ = 0;
};

}  // namespace tandem::engine::grammar
