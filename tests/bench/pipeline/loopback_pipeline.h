// A pipeline of step loops in this process whose hops go through gRPC on loopback.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "coordinator/dispatcher.h"
#include "engine/base/status_macros.h"
#include "links/grpc_link.h"
#include "links/step_loop.h"
#include "proto/support/channel.h"

namespace tandem::bench {

// Owns the stages and their threads; borrows the dispatcher, which must be stopped before this is destroyed.
class LoopbackPipeline {
 public:
  // Attached to `dispatcher` when it returns. `pipeline` says how; its num_stages is that of `stages`.
  static absl::StatusOr<std::unique_ptr<LoopbackPipeline>> Start(std::vector<std::unique_ptr<engine::Stage>> stages,
                                                                 const engine::ModelSpec& spec,
                                                                 coordinator::PipelineSpec pipeline,
                                                                 coordinator::Dispatcher& dispatcher) {
    const size_t count = stages.size();
    pipeline.num_stages = static_cast<int32_t>(count);
    std::unique_ptr<LoopbackPipeline> result(new LoopbackPipeline(count + 1));
    for (size_t i = 0; i < count; ++i) {
      result->loops_.push_back(std::make_unique<links::StepLoop>(std::move(stages[i]), spec, static_cast<uint32_t>(i),
                                                                 links::StepLoopOptions{}));
      result->ends_[i].service->Serve(
          pipeline.epoch, [loop = result->loops_[i].get()](auto frame) { loop->Post(std::move(frame)); },
          [](absl::Status) {});
    }
    result->ends_[count].service->Serve(
        pipeline.epoch, [&dispatcher](auto frame) { dispatcher.OnFrame(std::move(frame)); }, [](absl::Status) {});
    for (size_t i = 0; i < count; ++i) {
      TANDEM_ASSIGN_OR_RETURN(auto link, result->ends_[i + 1].Dial(pipeline.epoch));
      result->loops_[i]->Start(std::move(link));
    }
    TANDEM_ASSIGN_OR_RETURN(auto first, result->ends_[0].Dial(pipeline.epoch));
    dispatcher.AttachPipeline(pipeline, std::move(first));
    return result;
  }

  ~LoopbackPipeline() {
    for (size_t i = 0; i < ends_.size(); ++i) {
      ends_[i].service->StopServing();
      if (i < loops_.size()) loops_[i]->Stop();
    }
  }

 private:
  // A gRPC server with a Pipeline service on a port of its own.
  struct Endpoint {
    std::unique_ptr<links::PipelineService> service = links::MakePipelineService();
    std::unique_ptr<grpc::Server> server;
    int port = 0;

    Endpoint() {
      grpc::ServerBuilder builder;
      proto_support::ConfigureServer(builder);
      builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
      builder.RegisterService(service->service());
      server = builder.BuildAndStart();
    }
    absl::StatusOr<std::unique_ptr<links::StepLink>> Dial(uint64_t epoch) const {
      links::GrpcLinkOptions options;
      options.address = absl::StrCat("127.0.0.1:", port);
      options.epoch = epoch;
      return links::DialGrpcLink(options);
    }
  };

  explicit LoopbackPipeline(size_t ends) : ends_(ends) {}

  std::vector<Endpoint> ends_;  // of the stages in order, and of the coordinator
  std::vector<std::unique_ptr<links::StepLoop>> loops_;
};

}  // namespace tandem::bench
