#include "coordinator/scheduler/page_pool.h"

namespace tandem::coordinator {

PagePool::PagePool(int32_t num_pages) : pages_(num_pages) {
  free_.reserve(num_pages);
  for (int32_t page = num_pages - 1; page >= 0; --page) free_.push_back(static_cast<uint32_t>(page));
}

std::optional<uint32_t> PagePool::Take() {
  if (free_.empty()) return std::nullopt;
  const uint32_t page = free_.back();
  free_.pop_back();
  pages_[page].users = 1;
  return page;
}

void PagePool::Use(uint32_t page) {
  if (pages_[page].users++ == 0) --idle_;
}

void PagePool::Drop(uint32_t page) {
  if (--pages_[page].users > 0) return;
  if (pages_[page].kept) {
    ++idle_;
  } else {
    free_.push_back(page);
  }
}

void PagePool::Keep(uint32_t page) { pages_[page].kept = true; }

void PagePool::Forget(uint32_t page) {
  pages_[page].kept = false;
  if (pages_[page].users > 0) return;
  --idle_;
  free_.push_back(page);
}

}  // namespace tandem::coordinator
