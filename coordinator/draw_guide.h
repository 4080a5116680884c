// What the next draw of a sequence depends on beside its logits and its parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"
#include "engine/sampling/dry.h"
#include "engine/sampling/sampler.h"
#include "engine/tokenizer/tokenizer.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::coordinator {

// Follows one sequence: the place in its grammar, DRY's history, mirostat's mu. It lives here, beside the tokens that
// it is a function of, so the workers keep nothing of it and a sequence that is recomputed elsewhere goes on with the
// same draws. Made on any thread, then owned by the dispatch thread.
class DrawGuide {
 public:
  // Each is absent where the request does not ask for it.
  struct Options {
    std::optional<engine::DryParams> dry;  // valid
    std::optional<float> mirostat_tau;
    std::optional<engine::grammar::Matcher> matcher;
    std::vector<int32_t> end_tokens;  // allowed where the grammar may end
    std::vector<int32_t> banned;      // never allowed, whatever the grammar says
  };
  enum class Outlook {
    kOpen,   // text may follow
    kWhole,  // what was said is whole and nothing can follow
    kStuck,  // nothing can follow, though the text is not whole
  };

  // `tokenizer` must outlive this. `prompt`: what DRY sees of it.
  DrawGuide(const engine::Tokenizer& tokenizer, Options options, const std::vector<int32_t>& prompt);

  // Whether the token may be drawn now.
  bool Allows(int32_t token) const;
  // A token that Allows was drawn. Errors: those of Matcher::Accept.
  absl::Status Append(const engine::SampledToken& drawn);
  Outlook outlook() const { return outlook_; }
  // Fills dry, allowed and mirostat_mu of a slice after whose last token one is to be drawn. The outlook must be open.
  void Describe(v1::Slice* slice) const;

 private:
  void FindAllowed();

  const engine::Tokenizer& tokenizer_;
  std::optional<engine::DryHistory> dry_;
  std::optional<float> mirostat_mu_;
  std::optional<engine::grammar::Matcher> matcher_;
  const std::vector<int32_t> end_tokens_, banned_;
  engine::grammar::TokenMask allowed_;  // with a matcher only
  Outlook outlook_ = Outlook::kOpen;
};

// The shortest form of a set of tokens of a vocabulary.
v1::TokenSet ToTokenSet(const engine::grammar::TokenMask& mask, int32_t vocab_size);

}  // namespace tandem::coordinator
