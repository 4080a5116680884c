// The KV pages of sequences: which are their own, and which they read together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "coordinator/scheduler/page_pool.h"
#include "coordinator/scheduler/prefix_index.h"
#include "coordinator/scheduler/sequence.h"

namespace tandem::coordinator {

// The contents of page `from` become those of page `to` as well, on every stage.
struct PageCopy {
  uint32_t from = 0, to = 0;
};

// Role: gives pages to sequences, shares those that begin alike, and takes pages back. Of a sequence it writes pages,
// indexed, node, and scheduled where tokens need not be computed. Ownership: owns pool and index, borrows sequences.
// Owned by the scheduler; not thread-safe.
//
// A sequence's leading `indexed` pages are in the prefix index and only read; it writes to those after them. A page is
// indexed once a step that fills it is planned: steps that are planned later run later, and find it complete.
class SequencePages {
 public:
  SequencePages() : SequencePages(0, 1) {}
  SequencePages(int32_t num_pages, int32_t page_tokens);
  SequencePages(const SequencePages&) = delete;
  SequencePages& operator=(const SequencePages&) = delete;
  // All pages are free, and nothing is known of what they hold. No sequence has pages.
  void Reset(int32_t num_pages, int32_t page_tokens);

  int32_t PagesFor(int32_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }

  // Of `tokens`, a text of `domain`, how many need not be computed, as things are.
  int32_t KnownTokens(const std::string& domain, std::span<const int32_t> tokens) const;
  // Whether Begin would succeed.
  bool CanBegin(int32_t reserve, const Sequence& sequence) const { return Fits(reserve, sequence, Find(sequence)); }
  // Pages for all tokens that `sequence`, which has none, is known to have, and its place in what others have computed.
  // `copies`: what must be copied in the next step. False, and nothing changed, if then fewer than `reserve` pages
  // would be left.
  bool Begin(int32_t reserve, Sequence* sequence, std::vector<PageCopy>* copies);
  // One page more. False if none is left.
  bool AddPage(Sequence* sequence);
  // Takes over what others have computed since of the tokens that the sequence needs next.
  void CatchUp(Sequence* sequence);
  // The pages that the planned steps fill become known to others.
  void Index(Sequence* sequence);
  // Takes all pages back. Those that are indexed stay known until they are needed.
  void Release(Sequence* sequence);

  const PagePool& pool() const { return pool_; }

 private:
  PrefixIndex::Match Find(const Sequence& sequence) const;
  bool Fits(int32_t reserve, const Sequence& sequence, const PrefixIndex::Match& match) const;
  // `sequence` reads `node` as its next page.
  void Adopt(PrefixIndex::Node* node, Sequence* sequence);
  int32_t available() const { return pool_.free() + pool_.idle(); }
  uint32_t Take();  // at least one is available

  int32_t page_tokens_;
  PagePool pool_;
  PrefixIndex index_;
};

}  // namespace tandem::coordinator
