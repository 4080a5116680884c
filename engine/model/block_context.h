// What the parts of a transformer block share: the model, the machinery of a stage, and the steps that recur.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>

#include "absl/functional/function_ref.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/adapter_products.h"
#include "engine/model/layer_weights.h"
#include "engine/model/linear.h"
#include "engine/model/model_spec.h"
#include "engine/model/scratch.h"

namespace tandem::engine {

// A matrix product of all tokens: output [tokens, matrix.rows()] = input x matrix + bias (empty: none).
struct Projection {
  const PackedMatrix& matrix;
  const Vector& bias;
  float* output;
};
inline const Vector kNoBias;

// The product of some rows of an input with a matrix of its own; output and stride as in Linear::Multiply.
struct MatrixRun {
  const PackedMatrix* matrix;
  int64_t first_row, rows;
  float* output;
  int64_t stride;
};

// Ownership: borrows everything. Threading: owned by the step thread, works on the pool; each call is one fork and join
// unless said otherwise. Every result is computed for its row alone.
class BlockContext {
 public:
  BlockContext(const ModelSpec& model, const KernelTable& kernel_table, ThreadPool& threads, Scratch& memory,
               AdapterProducts& adapter_products)
      : spec(model),
        kernels(kernel_table),
        pool(threads),
        scratch(memory),
        linear(kernel_table, memory),
        adapters(adapter_products) {}

  const ModelSpec& spec;
  const KernelTable& kernels;
  ThreadPool& pool;
  Scratch& scratch;
  const Linear linear;
  AdapterProducts& adapters;
  int64_t tokens = 0;  // of the step in progress
  // A value was infinite or not a number.
  std::atomic<bool> not_finite{false};

  // Calls fn(row) for 0 <= row < count, on all threads.
  void ForRows(int64_t count, absl::FunctionRef<void(int64_t row)> fn);
  void ForTokens(absl::FunctionRef<void(int64_t token)> fn) { ForRows(tokens, fn); }

  // The architecture's norm of one row, in this thread. `bias` may be null. out may be x.
  void Norm(const float* weight, const float* bias, const float* x, int64_t n, float* out) const;
  // In this thread: the norm of one hidden state, or a copy where `weight` is empty, as row `row` of the input
  // scratch.normed, prepared as `forms` say. An RMS norm that is wanted as one int8 kind alone is quantised on the way
  // and not written. False as Linear::PrepareRow.
  bool PrepareNormed(const InputForms& forms, const Vector& weight, const Vector& bias, const float* x,
                     int64_t row) const;
  // The same of all tokens of scratch.hidden.
  void NormHidden(const Vector& weight, const Vector& bias, const InputForms& forms);
  // In this thread: one row, as Linear::PrepareRow.
  void PrepareRow(const InputForms& forms, const float* x, int64_t row, int64_t cols);
  void PrepareRows(const InputForms& forms, const float* input, int64_t rows, int64_t cols);

  // In this thread: row groups [begin, end) of one product, without what adapters add.
  void MultiplyColumns(const Projection& to, const float* input, int64_t begin, int64_t end) const;
  // With what the step's adapters add, for which each takes forks of its own.
  void Project(std::initializer_list<Projection> projections, const float* input);
  void MultiplyRuns(int64_t count, absl::FunctionRef<MatrixRun(int64_t i)> run, const float* input);

  // Adds to scratch.hidden what a sub-layer gives: matrix x input + bias, normed unless `post_norm` is empty, times the
  // residual scale. More than one fork where it is normed or
  // adapted.
  void ProjectAndAdd(const PackedMatrix& matrix, const Vector& bias, const Vector& post_norm, const float* input);
  // The same for a result in scratch.projected, one token, in this thread.
  void AddProjected(const Vector& post_norm, int64_t token);
};

}  // namespace tandem::engine
