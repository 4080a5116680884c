// The coordinator's ends of a pipeline over gRPC: the link to the first stage, the service that the last stage dials.
#pragma once

#include <functional>
#include <string>

#include "coordinator/cluster.h"
#include "coordinator/dispatcher.h"
#include "links/grpc_link.h"

namespace tandem::coordinator {

// Owned by the server; used by the cluster thread only. Borrows dispatcher and service, which must outlive it.
class GrpcPipelineEnds : public PipelineEnds {
 public:
  // `on_broken` is called on gRPC threads when either end breaks by itself; `on_serving` on the cluster thread when a
  // pipeline begins or ceases to serve. Neither may block.
  GrpcPipelineEnds(Dispatcher& dispatcher, links::PipelineService& service,
                   std::function<void(uint64_t epoch, absl::Status)> on_broken, std::function<void(bool)> on_serving)
      : dispatcher_(dispatcher),
        service_(service),
        on_broken_(std::move(on_broken)),
        on_serving_(std::move(on_serving)) {}

  void Serve(uint64_t epoch) override;
  absl::Status Attach(const PipelineSpec& spec, const std::string& first_address) override;
  void Detach(const absl::Status& why) override;
  void Explain(const std::string& why) override { dispatcher_.SetReason(why); }

 private:
  Dispatcher& dispatcher_;
  links::PipelineService& service_;
  const std::function<void(uint64_t, absl::Status)> on_broken_;
  const std::function<void(bool)> on_serving_;
};

}  // namespace tandem::coordinator
