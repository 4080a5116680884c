#include "engine/model/adapter_products.h"

#include <algorithm>

namespace tandem::engine {

AdapterProducts::AdapterProducts(const AdapterWeights& weights, const KernelTable& kernels, ThreadPool& pool,
                                 const Scratch& scratch, const ScratchShape& shape)
    : weights_(weights),
      kernels_(kernels),
      pool_(pool),
      scratch_(scratch),
      linear_(kernels, scratch),
      max_rank_(shape.adapter_rank) {
  if (weights.count() > 0) runs_.reserve(static_cast<size_t>(shape.tokens * kMaxSliceAdapters));
}

void AdapterProducts::Begin(const Step& step) {
  runs_.clear();
  turns_ = 0;
  tokens_ = 0;
  for (const Slice& slice : step.slices) {
    const int64_t rows = static_cast<int64_t>(slice.tokens.size());
    int turn = 0;
    for (const AdapterUse& use : slice.adapters) runs_.push_back({turn++, use, tokens_, rows});
    turns_ = std::max(turns_, turn);
    tokens_ += rows;
  }
}

template <typename Fn>
void AdapterProducts::ForRuns(const PackedMatrix& matrix, int turn, Fn fn) const {
  for (const Run& run : runs_) {
    if (run.turn != turn) continue;
    if (const AdapterDelta* delta = weights_.Find(run.use.adapter, matrix); delta != nullptr) fn(run, *delta);
  }
}

void AdapterProducts::Add(const PackedMatrix& matrix, const float* input, float* output) {
  const int64_t stride = matrix.rows();
  for (int turn = 0; turn < turns_; ++turn) {
    bool any = false;
    ForRuns(matrix, turn, [&](const Run&, const AdapterDelta&) { any = true; });
    if (!any) continue;
    // Few outputs a row, so threads share out the rows.
    pool_.ParallelFor(tokens_, 1, [&](int64_t begin, int64_t end, int) {
      ForRuns(matrix, turn, [&](const Run& run, const AdapterDelta& delta) {
        const int64_t first = std::max(begin, run.first_row), last = std::min(end, run.first_row + run.rows);
        if (first >= last) return;
        const int64_t rank = delta.a.rows();
        linear_.Multiply(delta.a, input, first, last - first, 0, delta.a.groups(),
                         LowOf(run) + (first - run.first_row) * rank, rank);
      });
    });
    pool_.ParallelFor(matrix.groups(), 1, [&](int64_t begin, int64_t end, int) {
      const int64_t column = begin * kRowGroup, count = std::min(end * kRowGroup, stride) - column;
      ForRuns(matrix, turn, [&](const Run& run, const AdapterDelta& delta) {
        float* added = scratch_.adapter_added + run.first_row * stride;
        linear_.Multiply(delta.b, LowOf(run), 0, run.rows, begin, end, added, stride);
        for (int64_t row = 0; row < run.rows; ++row) {
          kernels_.add_scaled(added + row * stride + column, run.use.scale * delta.scale, count,
                              output + (run.first_row + row) * stride + column);
        }
      });
    });
  }
}

}  // namespace tandem::engine
