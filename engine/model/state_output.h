// Hidden states as results of a step: what embeddings are pooled from.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/cpu/thread_pool.h"
#include "engine/stage.h"

namespace tandem::engine {

// Fills state and state_sum of those entries of `result->results` whose slice asks for them. `norm` writes the output
// norm of one row of the step's hidden state to out[hidden]; it is called by several threads. `normed` is working
// memory, [tokens of the step, hidden]. Errors: kInternal (a state is infinite or not a number), kOutOfRange (a state
// that a sum cannot hold; has value and limit). May throw std::bad_alloc.
absl::Status TakeStates(const Step& step, int64_t hidden, ThreadPool& pool,
                        absl::FunctionRef<void(int64_t token, float* out)> norm, float* normed, StepResult* result);

}  // namespace tandem::engine
