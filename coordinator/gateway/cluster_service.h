// The Cluster service: workers join and fetch the model; anyone sees state, plans and steps. Thin: checks, calls,
// converts.
#pragma once

#include <functional>

#include "coordinator/cluster_manager.h"
#include "coordinator/serial_executor.h"
#include "coordinator/served_model.h"
#include "coordinator/step_feed.h"
#include "tandem/v1/cluster.grpc.pb.h"

namespace tandem::coordinator {

// Borrows all, which must outlive it and its server. Thread-safe.
class ClusterService : public v1::Cluster::CallbackService {
 public:
  // `draft`: a second model that workers may fetch; may be null. `complete_state` adds to a state what the cluster
  // thread does not know. `file_reader` reads the model file, since page faults may block.
  ClusterService(const ServedModel& model, const ServedModel* draft, ClusterManager& manager,
                 SerialExecutor& file_reader, StepFeed& steps, std::function<void(v1::ClusterState*)> complete_state)
      : model_(model),
        draft_(draft),
        manager_(manager),
        file_reader_(file_reader),
        steps_(steps),
        complete_state_(std::move(complete_state)) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Join(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<v1::FileChunk>* FetchHeader(grpc::CallbackServerContext* context,
                                                       const v1::FetchHeaderRequest* request) override;
  grpc::ServerWriteReactor<v1::TensorChunk>* FetchTensors(grpc::CallbackServerContext* context,
                                                          const v1::FetchTensorsRequest* request) override;
  grpc::ServerUnaryReactor* GetState(grpc::CallbackServerContext* context, const v1::GetStateRequest* request,
                                     v1::ClusterState* response) override;
  grpc::ServerUnaryReactor* Plan(grpc::CallbackServerContext* context, const v1::PlanRequest* request,
                                 v1::PlanReply* response) override;
  grpc::ServerWriteReactor<v1::StepTrace>* WatchSteps(grpc::CallbackServerContext* context,
                                                      const v1::WatchStepsRequest* request) override;

 private:
  // The file with this fingerprint. Errors: kNotFound.
  absl::StatusOr<const engine::GgufFile*> FindFile(const std::string& fingerprint) const;

  const ServedModel& model_;
  const ServedModel* const draft_;
  ClusterManager& manager_;
  SerialExecutor& file_reader_;
  StepFeed& steps_;
  const std::function<void(v1::ClusterState*)> complete_state_;
};

}  // namespace tandem::coordinator
