#include "engine/model/state_output.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/model/linear.h"

namespace tandem::engine {
namespace {

// Elements of a sum that a thread takes at least.
constexpr int64_t kSumGrain = 64;

struct Rows {
  int64_t begin = 0, end = 0;
};

// The rows that `slice` wants of its own, which start at `first`.
Rows WantedRows(const Slice& slice, int64_t first) {
  const int64_t end = first + static_cast<int64_t>(slice.tokens.size());
  switch (slice.output) {
    case SliceOutput::kFirstState:
      return {first, first + 1};
    case SliceOutput::kLastState:
      return {end - 1, end};
    case SliceOutput::kStateSum:
      return {first, end};
    case SliceOutput::kNone:
    case SliceOutput::kSample:
    case SliceOutput::kLogits:
      break;
  }
  return {};
}

// Sums over whole numbers, so threads may share out the elements in any way.
absl::Status SumRows(const Rows& rows, int64_t hidden, ThreadPool& pool, const float* normed,
                     std::vector<int64_t>* sum) {
  constexpr double kUnitsPerOne = static_cast<double>(int64_t{1} << kStateSumBits);
  sum->assign(hidden, 0);
  std::atomic<bool> too_large{false};
  pool.ParallelFor(hidden, kSumGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      for (int64_t i = begin; i < end; ++i) {
        const float value = normed[row * hidden + i];
        if (std::fabs(value) >= kMaxSummedState) return too_large.store(true, std::memory_order_relaxed);
        (*sum)[i] += std::llrint(static_cast<double>(value) * kUnitsPerOne);
      }
    }
  });
  if (!too_large.load(std::memory_order_relaxed)) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrFormat(
      "a hidden state has values of %g or more, which cannot be summed: pool the last one instead", kMaxSummedState));
}

}  // namespace

absl::Status TakeStates(const Step& step, int64_t hidden, ThreadPool& pool,
                        absl::FunctionRef<void(int64_t token, float* out)> norm, float* normed, StepResult* result) {
  int64_t first = 0;
  auto to = result->results.begin();
  for (const Slice& slice : step.slices) {
    const Rows rows = WantedRows(slice, first);
    if (rows.begin < rows.end) {
      std::atomic<bool> finite{true};
      pool.ParallelFor(rows.end - rows.begin, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = rows.begin + begin; row < rows.begin + end; ++row) {
          norm(row, normed + row * hidden);
          if (!AllFinite(normed + row * hidden, hidden)) finite.store(false, std::memory_order_relaxed);
        }
      });
      if (!finite.load(std::memory_order_relaxed)) {
        return absl::InternalError("a hidden state is infinite or not a number: the weights are broken");
      }
      if (slice.output == SliceOutput::kStateSum) {
        TANDEM_RETURN_IF_ERROR(SumRows(rows, hidden, pool, normed, &to->state_sum));
      } else {
        to->state.assign(normed + rows.begin * hidden, normed + rows.end * hidden);
      }
    }
    if (slice.output != SliceOutput::kNone) ++to;
    first += static_cast<int64_t>(slice.tokens.size());
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
