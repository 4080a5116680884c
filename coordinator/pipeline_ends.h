// The coordinator's ends of pipelines over gRPC: the links to first stages, the service that last stages dial.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "coordinator/cluster.h"
#include "coordinator/dispatcher.h"
#include "links/grpc_link.h"

namespace tandem::coordinator {

// Owned by the server; used by the cluster thread only. Borrows dispatcher and service, which must outlive it.
class GrpcPipelineEnds : public PipelineEnds {
 public:
  // `on_broken` is called on gRPC threads when either end of a pipeline breaks by itself; `on_serving` on the cluster
  // thread when a pipeline begins, and when the last one ceases to serve. Neither may block.
  GrpcPipelineEnds(Dispatcher& dispatcher, links::PipelineService& service,
                   std::function<void(uint64_t epoch, absl::Status)> on_broken, std::function<void(bool)> on_serving)
      : dispatcher_(dispatcher),
        service_(service),
        on_broken_(std::move(on_broken)),
        on_serving_(std::move(on_serving)) {}

  void Serve(uint64_t epoch) override;
  absl::Status Attach(const PipelineSpec& spec, const std::string& first_address) override;
  void Detach(uint64_t epoch, const absl::Status& why) override;
  void Explain(const std::string& why) override { dispatcher_.SetReason(why); }

 private:
  Dispatcher& dispatcher_;
  links::PipelineService& service_;
  const std::function<void(uint64_t, absl::Status)> on_broken_;
  const std::function<void(bool)> on_serving_;
  std::set<uint64_t> attached_;  // epochs
};

}  // namespace tandem::coordinator
