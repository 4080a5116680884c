#include "coordinator/draw_guide.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

using engine::grammar::TokenMask;

bool Contains(const TokenMask& mask, int32_t token) {
  return (mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0;
}
void Insert(int32_t token, TokenMask* mask) { (*mask)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64); }
void Remove(int32_t token, TokenMask* mask) {
  (*mask)[static_cast<size_t>(token) / 64] &= ~(uint64_t{1} << (token % 64));
}

}  // namespace

DrawGuide::DrawGuide(const engine::Tokenizer& tokenizer, Options options, const std::vector<int32_t>& prompt)
    : tokenizer_(tokenizer),
      matcher_(std::move(options.matcher)),
      end_tokens_(std::move(options.end_tokens)),
      banned_(std::move(options.banned)) {
  if (options.mirostat_tau) mirostat_mu_ = 2.0f * *options.mirostat_tau;
  if (options.dry) {
    dry_.emplace(*std::move(options.dry));
    for (const int32_t token : prompt) dry_->Append(token, tokenizer_.Piece(token));
  }
  FindAllowed();
}

void DrawGuide::FindAllowed() {
  if (!matcher_) return;
  allowed_ = matcher_->mask();
  for (const int32_t token : banned_) Remove(token, &allowed_);
  const bool any_text = std::any_of(allowed_.begin(), allowed_.end(), [](uint64_t word) { return word != 0; });
  outlook_ = any_text ? Outlook::kOpen : matcher_->may_end() ? Outlook::kWhole : Outlook::kStuck;
  if (!matcher_->may_end()) return;
  for (const int32_t token : end_tokens_) {
    if (std::find(banned_.begin(), banned_.end(), token) == banned_.end()) Insert(token, &allowed_);
  }
}

bool DrawGuide::Allows(int32_t token) const { return !matcher_ || Contains(allowed_, token); }

absl::Status DrawGuide::Append(const engine::SampledToken& drawn) {
  if (dry_) dry_->Append(drawn.token, tokenizer_.Piece(drawn.token));
  if (mirostat_mu_) mirostat_mu_ = drawn.mirostat_mu;
  // The end is no text.
  const bool ends = std::find(end_tokens_.begin(), end_tokens_.end(), drawn.token) != end_tokens_.end();
  if (!matcher_ || ends) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(matcher_->Accept(drawn.token));
  FindAllowed();
  return absl::OkStatus();
}

void DrawGuide::Describe(v1::Slice* slice) const {
  if (mirostat_mu_) slice->set_mirostat_mu(*mirostat_mu_);
  if (matcher_) *slice->mutable_allowed() = ToTokenSet(allowed_, tokenizer_.vocab_size());
  if (!dry_) return;
  for (const auto& [token, penalty] : dry_->Penalties()) {
    v1::DryPenalty* entry = slice->add_dry();
    entry->set_token(static_cast<uint32_t>(token));
    entry->set_penalty(penalty);
  }
}

v1::TokenSet ToTokenSet(const TokenMask& mask, int32_t vocab_size) {
  constexpr size_t kBytesOfAnId = 3;  // as a varint, in vocabularies of 2^14 to 2^21 tokens
  size_t count = 0;
  for (const uint64_t word : mask) count += static_cast<size_t>(__builtin_popcountll(word));
  const size_t all = static_cast<size_t>(vocab_size), bytes = (all + 7) / 8;
  v1::TokenSet set;
  const bool few = count * kBytesOfAnId <= bytes, nearly_all = (all - count) * kBytesOfAnId <= bytes;
  if (!few && !nearly_all) {
    set.set_bits(mask.data(), bytes);  // little-endian, as GgufFile requires of the machine
    return set;
  }
  v1::TokenList* list = few ? set.mutable_only() : set.mutable_all_but();
  for (int32_t token = 0; token < vocab_size; ++token) {
    if (Contains(mask, token) == few) list->add_ids(static_cast<uint32_t>(token));
  }
  return set;
}

}  // namespace tandem::coordinator
