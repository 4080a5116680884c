// What the next draw of a sequence depends on beside its logits and its parameters.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/sampling/dry.h"
#include "engine/sampling/sampler.h"
#include "engine/tokenizer/tokenizer.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::coordinator {

// Follows one sequence: DRY's history and mirostat's mu. It lives here, beside the tokens that it is a function of, so
// the workers keep nothing of it and a sequence that is recomputed elsewhere goes on with the same draws. Made on any
// thread, then owned by the dispatch thread.
class DrawGuide {
 public:
  // `tokenizer` must outlive this. `dry` valid; absent: off. `mirostat_tau`: absent without mirostat.
  DrawGuide(const engine::Tokenizer& tokenizer, std::optional<engine::DryParams> dry,
            std::optional<float> mirostat_tau);

  // A token of the prompt.
  void AppendPrompt(int32_t token) { Remember(token); }
  // A token was drawn with what Describe had said.
  void Append(const engine::SampledToken& drawn);
  // Fills dry and mirostat_mu of a slice after whose last token one is to be drawn.
  void Describe(v1::Slice* slice) const;

 private:
  void Remember(int32_t token);

  const engine::Tokenizer& tokenizer_;
  std::optional<engine::DryHistory> dry_;
  std::optional<float> mirostat_mu_;
};

}  // namespace tandem::coordinator
