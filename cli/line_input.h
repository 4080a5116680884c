// Lines from standard input that Ctrl-C can interrupt.
#pragma once

#include <string>

#include "engine/base/interrupt.h"

namespace tandem::cli {

// Used by one thread; `interrupt` must outlive it.
class LineInput {
 public:
  explicit LineInput(Interrupt& interrupt);
  ~LineInput();
  LineInput(const LineInput&) = delete;
  LineInput& operator=(const LineInput&) = delete;

  // The next line without its end. False at the end of input or after Ctrl-C.
  bool Read(std::string* line);

 private:
  Interrupt& interrupt_;
  int wake_[2];  // pipe that the signal thread writes to
  std::string buffer_;
  bool end_ = false;
};

}  // namespace tandem::cli
