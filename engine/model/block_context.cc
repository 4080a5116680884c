#include "engine/model/block_context.h"

#include <algorithm>

namespace tandem::engine {

void BlockContext::ForRows(int64_t count, absl::FunctionRef<void(int64_t row)> fn) {
  pool.ParallelFor(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) fn(row);
  });
}

void BlockContext::Norm(const float* weight, const float* bias, const float* x, int64_t n, float* out) const {
  if (spec.row->norm == NormKind::kRms) {
    kernels.rms_norm(x, weight, n, spec.norm_eps, out);
  } else {
    kernels.layer_norm(x, weight, bias, n, spec.norm_eps, out);
  }
}

bool BlockContext::PrepareNormed(const InputForms& forms, const Vector& weight, const Vector& bias, const float* x,
                                 int64_t row) const {
  const int64_t hidden = spec.hidden;
  const bool one_int8 = forms.Is(ActivationKind::kInt8Block32) || forms.Is(ActivationKind::kInt8Block256);
  if (one_int8 && !weight.empty() && spec.row->norm == NormKind::kRms) {
    return linear.PrepareNormedRow(forms, weight.data(), spec.norm_eps, x, row, hidden);
  }
  float* normed = scratch.normed + row * hidden;
  if (weight.empty()) {
    std::copy_n(x, hidden, normed);
  } else {
    Norm(weight.data(), bias.empty() ? nullptr : bias.data(), x, hidden, normed);
  }
  return linear.PrepareRow(forms, normed, row, hidden);
}

void BlockContext::NormHidden(const Vector& weight, const Vector& bias, const InputForms& forms) {
  ForTokens([&](int64_t token) {
    if (PrepareNormed(forms, weight, bias, scratch.hidden + token * spec.hidden, token)) return;
    not_finite.store(true, std::memory_order_relaxed);
  });
}

void BlockContext::PrepareRow(const InputForms& forms, const float* x, int64_t row, int64_t cols) {
  if (!linear.PrepareRow(forms, x, row, cols)) not_finite.store(true, std::memory_order_relaxed);
}

void BlockContext::PrepareRows(const InputForms& forms, const float* input, int64_t rows, int64_t cols) {
  ForRows(rows, [&](int64_t row) { PrepareRow(forms, input + row * cols, row, cols); });
}

void BlockContext::MultiplyColumns(const Projection& to, const float* input, int64_t begin, int64_t end) const {
  const int64_t rows = to.matrix.rows();
  linear.Multiply(to.matrix, input, 0, tokens, begin, end, to.output, rows);
  if (to.bias.empty()) return;
  const int64_t first = begin * kRowGroup, count = std::min(end * kRowGroup, rows) - first;
  for (int64_t token = 0; token < tokens; ++token) {
    kernels.add(to.bias.data() + first, count, to.output + token * rows + first);
  }
}

// The row groups of the matrices form one range, so that all threads are busy to the end.
void BlockContext::Project(std::initializer_list<Projection> projections, const float* input) {
  int64_t groups = 0;
  for (const Projection& projection : projections) groups += projection.matrix.groups();
  pool.ParallelFor(groups, 1, [&](int64_t begin, int64_t end, int) {
    for (const Projection& to : projections) {
      const int64_t part_end = std::min(end, to.matrix.groups());
      if (begin < part_end) MultiplyColumns(to, input, begin, part_end);
      begin = std::max<int64_t>(0, begin - to.matrix.groups());
      end = std::max<int64_t>(0, end - to.matrix.groups());
    }
  });
  if (!adapters.active()) return;
  for (const Projection& to : projections) adapters.Add(to.matrix, input, to.output);
}

void BlockContext::MultiplyRuns(int64_t count, absl::FunctionRef<MatrixRun(int64_t i)> run, const float* input) {
  if (count == 0) return;
  const int64_t groups = run(0).matrix->groups();
  pool.ParallelFor(count * groups, 1, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      const MatrixRun part = run(begin / groups);
      const int64_t group = begin % groups, group_end = std::min(groups, group + end - begin);
      linear.Multiply(*part.matrix, input, part.first_row, part.rows, group, group_end, part.output, part.stride);
      begin += group_end - group;
    }
  });
}

// A thread adds the columns that it computed itself, so no thread waits for another.
void BlockContext::ProjectAndAdd(const PackedMatrix& matrix, const Vector& bias, const Vector& post_norm,
                                 const float* input) {
  if (!post_norm.empty() || adapters.active()) {
    Project({{matrix, bias, scratch.projected}}, input);
    ForTokens([&](int64_t token) { AddProjected(post_norm, token); });
    return;
  }
  const int64_t rows = matrix.rows();
  pool.ParallelFor(matrix.groups(), 1, [&](int64_t begin, int64_t end, int) {
    MultiplyColumns({matrix, bias, scratch.projected}, input, begin, end);
    const int64_t first = begin * kRowGroup, count = std::min(end * kRowGroup, rows) - first;
    for (int64_t token = 0; token < tokens; ++token) {
      const int64_t offset = token * rows + first;
      kernels.add_scaled(scratch.projected + offset, spec.residual_scale, count, scratch.hidden + offset);
    }
  });
}

void BlockContext::AddProjected(const Vector& post_norm, int64_t token) {
  const int64_t hidden = spec.hidden;
  float* result = scratch.projected + token * hidden;
  if (!post_norm.empty()) Norm(post_norm.data(), nullptr, result, hidden, result);
  kernels.add_scaled(result, spec.residual_scale, hidden, scratch.hidden + token * hidden);
}

}  // namespace tandem::engine
