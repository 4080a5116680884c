// Checks of everything that a stage is given from outside: its options and each step, before an index is used.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model_spec.h"
#include "engine/model/scratch.h"
#include "engine/stage.h"

namespace tandem::engine {

// Errors: kInvalidArgument (names the option, its value and the limits).
absl::Status CheckStageOptions(const ModelSpec& spec, const StageOptions& options);

// Ownership: borrows all arguments. Threading: owned by the step thread.
class StepChecker {
 public:
  // `options` have been checked; `adapters` is the number of those loaded.
  StepChecker(const ModelSpec& spec, const StageOptions& options, int32_t adapters, Scratch& scratch)
      : spec_(spec), options_(options), adapters_(adapters), scratch_(scratch) {}

  // Checks `step`, fills scratch.places and returns the number of tokens. Errors: kInvalidArgument (names slice, field,
  // value and limit).
  absl::StatusOr<int64_t> Check(const Step& step);

 private:
  bool is_first() const { return options_.first_layer == 0; }
  bool is_last() const { return options_.end_layer == spec_.num_layers; }
  absl::Status CheckSlice(int32_t index, const Slice& slice, int64_t tokens_before) const;
  absl::Status CheckGuesses(int32_t index, const Slice& slice) const;
  absl::Status CheckSampling(int32_t index, const Slice& slice) const;
  absl::Status CheckAdapters(int32_t index, const Slice& slice) const;
  absl::Status CheckHidden(const Step& step, int64_t tokens) const;
  absl::Status ClaimPages(const Step& step);
  void Place(int32_t index, const Slice& slice, int64_t first_token);

  const ModelSpec& spec_;
  const StageOptions& options_;
  const int32_t adapters_;
  Scratch& scratch_;
  uint64_t step_number_ = 0;
};

}  // namespace tandem::engine
