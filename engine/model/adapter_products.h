// What adapters add to the products of a step.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/adapter_weights.h"
#include "engine/model/linear.h"
#include "engine/model/scratch.h"
#include "engine/stage.h"

namespace tandem::engine {

// Every row is computed by itself, through the adapters of its slice one after the other, so batch mates change no bit.
// Ownership: borrows everything. Threading: owned by the step thread, works on the pool.
class AdapterProducts {
 public:
  AdapterProducts(const AdapterWeights& weights, const KernelTable& kernels, ThreadPool& pool, const Scratch& scratch,
                  const ScratchShape& shape);

  // Takes in which rows of a step, which has been checked, go through which adapters.
  void Begin(const Step& step);
  // Whether any row of the step goes through one.
  bool active() const { return !runs_.empty(); }
  // Adds to output [tokens, matrix.rows()] what the adapters give for `input` [tokens, matrix.cols()]. Two forks for
  // each adapter of a slice that changes the matrix.
  void Add(const PackedMatrix& matrix, const float* input, float* output);

 private:
  // Rows that go through an adapter as the `turn`th of their slice's.
  struct Run {
    int turn;
    AdapterUse use;
    int64_t first_row, rows;
  };
  // Calls fn(run, delta) for the runs of `turn` whose adapter changes `matrix`.
  template <typename Fn>
  void ForRuns(const PackedMatrix& matrix, int turn, Fn fn) const;
  // A x of the rows of `run`, [rows, rank].
  float* LowOf(const Run& run) const { return scratch_.adapter_low + run.first_row * max_rank_; }

  const AdapterWeights& weights_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  const Scratch& scratch_;
  const Linear linear_;
  const int64_t max_rank_;
  std::vector<Run> runs_;  // of the step in progress
  int turns_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace tandem::engine
