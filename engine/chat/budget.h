// What one rendering may cost. Templates come with model files and are not trusted.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::engine::jinja {

// A step is one node evaluated or one element visited. Real templates need some hundred a message.
inline constexpr int64_t kMaxSteps = 10'000'000;
// Bytes of all strings and lists made on the way, so an upper bound of the memory too.
inline constexpr int64_t kMaxWorkBytes = int64_t{256} << 20;
// Far above any context: a million tokens are about 4 MiB.
inline constexpr size_t kMaxOutputBytes = size_t{32} << 20;
// Nodes that are being evaluated at one time, macros included; bounds the stack.
inline constexpr int kMaxEvaluationDepth = 400;

// Errors: kResourceExhausted naming the bound.
class Budget {
 public:
  absl::Status Steps(int64_t count) {
    steps_ -= count;
    if (steps_ >= 0) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat("the template takes more than ", kMaxSteps, " steps"));
  }
  absl::Status Bytes(size_t count) {
    work_bytes_ -= static_cast<int64_t>(count);
    if (work_bytes_ >= 0) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat("the template makes more than ", kMaxWorkBytes, " bytes of strings"));
  }
  int64_t* steps() { return &steps_; }

 private:
  int64_t steps_ = kMaxSteps;
  int64_t work_bytes_ = kMaxWorkBytes;
};

}  // namespace tandem::engine::jinja
