#include "coordinator/draw_guide.h"

#include <utility>

namespace tandem::coordinator {

DrawGuide::DrawGuide(const engine::Tokenizer& tokenizer, std::optional<engine::DryParams> dry,
                     std::optional<float> mirostat_tau)
    : tokenizer_(tokenizer) {
  if (dry) dry_.emplace(*std::move(dry));
  if (mirostat_tau) mirostat_mu_ = 2.0f * *mirostat_tau;
}

void DrawGuide::Append(const engine::SampledToken& drawn) {
  Remember(drawn.token);
  if (mirostat_mu_) mirostat_mu_ = drawn.mirostat_mu;
}

void DrawGuide::Remember(int32_t token) {
  if (dry_) dry_->Append(token, tokenizer_.Piece(token));
}

void DrawGuide::Describe(v1::Slice* slice) const {
  if (mirostat_mu_) slice->set_mirostat_mu(*mirostat_mu_);
  if (!dry_) return;
  for (const auto& [token, penalty] : dry_->Penalties()) {
    v1::DryPenalty* entry = slice->add_dry();
    entry->set_token(static_cast<uint32_t>(token));
    entry->set_penalty(penalty);
  }
}

}  // namespace tandem::coordinator
