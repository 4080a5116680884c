#include "cli/line_input.h"

#include <poll.h>
#include <unistd.h>

namespace tandem::cli {

LineInput::LineInput(Interrupt& interrupt) : interrupt_(interrupt) {
  if (pipe(wake_) != 0) wake_[0] = wake_[1] = -1;  // without it Ctrl-C acts at the next line
}

LineInput::~LineInput() {
  for (int fd : wake_) {
    if (fd >= 0) close(fd);
  }
}

bool LineInput::Read(std::string* line) {
  interrupt_.OnInterrupt([fd = wake_[1]] {
    if (fd >= 0 && write(fd, "x", 1) < 0) return;  // nobody waits
  });
  bool found = false;
  while (!found) {
    if (const size_t newline = buffer_.find('\n'); newline != std::string::npos) {
      *line = buffer_.substr(0, newline);
      buffer_.erase(0, newline + 1);
      found = true;
      break;
    }
    if (end_) {
      *line = std::move(buffer_);
      buffer_.clear();
      found = !line->empty();
      break;
    }
    pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 || interrupt_.requested()) break;
    char chunk[4096];
    const ssize_t count = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (count <= 0) {
      end_ = true;
    } else {
      buffer_.append(chunk, count);
    }
  }
  interrupt_.OnInterrupt({});
  return found && !interrupt_.requested();
}

}  // namespace tandem::cli
