#include "coordinator/scheduler/fair_shares.h"

#include <algorithm>

namespace tandem::coordinator {

void FairShares::Join(const std::string& client) {
  const auto found = clients_.find(client);
  if (found != clients_.end()) {
    ++found->second.requests;
    return;
  }
  const auto least = std::min_element(clients_.begin(), clients_.end(),
                                      [](const auto& a, const auto& b) { return a.second.served < b.second.served; });
  const int64_t level = least == clients_.end() ? 0 : least->second.served;
  clients_[client] = {.served = level, .requests = 1};
}

void FairShares::Leave(const std::string& client) {
  const auto found = clients_.find(client);
  if (--found->second.requests == 0) clients_.erase(found);
}

}  // namespace tandem::coordinator
