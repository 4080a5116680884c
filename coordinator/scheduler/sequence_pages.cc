#include "coordinator/scheduler/sequence_pages.h"

#include <algorithm>
#include <span>
#include <utility>

namespace tandem::coordinator {

SequencePages::SequencePages(int32_t num_pages, int32_t page_tokens)
    : page_tokens_(page_tokens), pool_(num_pages), index_(page_tokens, &pool_) {}

void SequencePages::Reset(int32_t num_pages, int32_t page_tokens) {
  page_tokens_ = page_tokens;
  pool_ = PagePool(num_pages);
  index_ = PrefixIndex(page_tokens, &pool_);
}

int32_t SequencePages::KnownTokens(const std::string& domain, std::span<const int32_t> tokens) const {
  const PrefixIndex::Match match = index_.Find(domain, /*from=*/nullptr, tokens);
  return static_cast<int32_t>(match.nodes.size()) * page_tokens_ + match.shared_tokens;
}

bool SequencePages::Fits(int32_t reserve, const Sequence& sequence, const PrefixIndex::Match& match) const {
  const int32_t own = PagesFor(sequence.length()) - static_cast<int32_t>(match.nodes.size());
  const auto idle = std::count_if(match.nodes.begin(), match.nodes.end(),
                                  [this](const PrefixIndex::Node* node) { return pool_.users(node->page()) == 0; });
  return own + reserve <= available() - idle;
}

bool SequencePages::Begin(int32_t reserve, Sequence* sequence, std::vector<PageCopy>* copies) {
  const PrefixIndex::Match match = Find(*sequence);
  if (!Fits(reserve, *sequence, match)) return false;
  const int32_t known = static_cast<int32_t>(match.nodes.size());
  const int32_t own = PagesFor(sequence->length()) - known;
  for (PrefixIndex::Node* node : match.nodes) Adopt(node, sequence);
  for (int32_t i = 0; i < own; ++i) sequence->pages.push_back(Take());
  if (match.shared_tokens > 0) {
    // Even if the page was given up just now: the copy comes before all writes of its new owner.
    copies->push_back({match.shared_page, sequence->pages[known]});
    sequence->scheduled += match.shared_tokens;
  }
  return true;
}

bool SequencePages::AddPage(Sequence* sequence) {
  if (available() == 0) return false;
  sequence->pages.push_back(Take());
  return true;
}

void SequencePages::CatchUp(Sequence* sequence) {
  if (sequence->scheduled != sequence->indexed * page_tokens_) return;
  for (PrefixIndex::Node* node : Find(*sequence).nodes) Adopt(node, sequence);
}

void SequencePages::Index(Sequence* sequence) {
  const std::span<const int32_t> tokens(sequence->tokens);
  const int32_t known = std::min(sequence->scheduled, sequence->length());  // the rest are guesses
  while ((sequence->indexed + 1) * page_tokens_ <= known) {
    const int32_t first = sequence->indexed * page_tokens_;
    Adopt(index_.Add(sequence->spec.domain, sequence->node, tokens.subspan(first, page_tokens_),
                     sequence->pages[sequence->indexed]),
          sequence);
  }
}

void SequencePages::Release(Sequence* sequence) {
  if (sequence->node != nullptr) index_.Touch(sequence->node);
  for (uint32_t page : sequence->pages) pool_.Drop(page);
  sequence->pages.clear();
  sequence->node = nullptr;
  sequence->indexed = 0;
  sequence->scheduled = 0;
}

PrefixIndex::Match SequencePages::Find(const Sequence& sequence) const {
  if (!sequence.spec.may_reuse()) return {};
  return index_.Find(sequence.spec.domain, sequence.node, std::span(sequence.tokens).subspan(sequence.scheduled));
}

void SequencePages::Adopt(PrefixIndex::Node* node, Sequence* sequence) {
  pool_.Use(node->page());
  if (static_cast<int32_t>(sequence->pages.size()) == sequence->indexed) {
    sequence->pages.push_back(node->page());
  } else {
    // Its own page, which may hold the same: a step in flight may still write to it (page_pool.h).
    pool_.Drop(std::exchange(sequence->pages[sequence->indexed], node->page()));
  }
  sequence->node = node;
  ++sequence->indexed;
  sequence->scheduled = std::max(sequence->scheduled, sequence->indexed * page_tokens_);
}

uint32_t SequencePages::Take() {
  if (pool_.free() == 0) index_.EvictOne();
  return *pool_.Take();
}

}  // namespace tandem::coordinator
