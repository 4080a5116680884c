#include "coordinator/scheduler/page_allocator.h"

namespace tandem::coordinator {

PageAllocator::PageAllocator(int32_t num_pages) : total_(num_pages) {
  free_.reserve(num_pages);
  for (int32_t page = num_pages - 1; page >= 0; --page) free_.push_back(static_cast<uint32_t>(page));
}

bool PageAllocator::Allocate(int32_t count, std::vector<uint32_t>* pages) {
  if (count > free()) return false;
  for (int32_t i = 0; i < count; ++i) {
    pages->push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void PageAllocator::Release(std::vector<uint32_t>* pages) {
  free_.insert(free_.end(), pages->rbegin(), pages->rend());
  pages->clear();
}

}  // namespace tandem::coordinator
