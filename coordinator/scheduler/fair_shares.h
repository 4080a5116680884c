// How much each client was served, so that the one that had least goes first.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tandem::coordinator {

// Counts work by client (the virtual token counter of "Fairness in Serving Large Language Models", Sheng et al. 2024).
// A client is known while it has requests; one that comes, or comes back, begins level with the least served of the
// others, so nobody saves up by staying away. Owned by the scheduler; not thread-safe.
class FairShares {
 public:
  // A request of the client came, or went.
  void Join(const std::string& client);
  void Leave(const std::string& client);
  // The client, which must be known, was served.
  void Charge(const std::string& client, int64_t work) { clients_.at(client).served += work; }
  // Comparable between clients only.
  int64_t served(const std::string& client) const { return clients_.at(client).served; }

 private:
  struct Client {
    int64_t served = 0;
    int32_t requests = 0;
  };
  std::map<std::string, Client> clients_;
};

}  // namespace tandem::coordinator
