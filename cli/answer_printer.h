// Prints an answer as it streams, and the closing line with token counts and speeds.
#pragma once

#include <string>

#include "tandem/v1/generate.pb.h"

namespace tandem::cli {

enum class PrintMode { kText, kIds };

// Text goes to standard output; the closing line to standard error, so that output can be piped. Used by one thread.
class AnswerPrinter {
 public:
  AnswerPrinter(PrintMode mode, bool quiet) : mode_(mode), quiet_(quiet) {}
  void Print(const v1::GenerateResponse& response);
  // Ends the line, also after an error or Ctrl-C.
  void Finish();
  const std::string& text() const { return text_; }

 private:
  void PrintClosingLine(const v1::GenerateResponse& last) const;

  const PrintMode mode_;
  const bool quiet_;
  std::string text_;
  bool any_id_ = false;
  bool finished_ = false;
};

}  // namespace tandem::cli
