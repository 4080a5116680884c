// A coordinator for tests of the worker: serves a model in memory, records what workers say, and says what it is told.
// It can be made to lie.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/server.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/gguf/gguf_file.h"
#include "links/grpc_link.h"
#include "tandem/v1/cluster.grpc.pb.h"

namespace tandem::testing {

inline constexpr absl::Duration kTestDeadline = absl::Seconds(30);

// Thread-safe. Listens on loopback from construction to Stop.
class FakeCoordinator : private v1::Cluster::Service {
 public:
  // `port` 0: any.
  explicit FakeCoordinator(int port = 0);
  ~FakeCoordinator() override { Stop(); }
  void Stop();

  std::string address() const;
  int port() const { return port_; }
  // Where the last stage dials.
  links::PipelineService& pipeline() { return *pipeline_; }

  // The file that is served from now on.
  void SetModel(std::vector<std::byte> file);
  void SetModel(std::unique_ptr<engine::GgufFile> file);
  v1::ModelRef model();

  // How to lie. Set before the worker asks.
  std::function<void(v1::FileChunk&)> spoil_header;
  // Called for each chunk of a tensor; false ends the stream.
  std::function<bool(v1::TensorChunk&)> spoil_tensor;
  grpc::Status join_status = grpc::Status::OK;  // another one: refuse Join
  uint32_t heartbeat_ms = 20;

  // Tells the worker with that address in its Hello; "": the one that joined last. False if there is none.
  bool Tell(const v1::CoordinatorMessage& message, const std::string& address = "");
  // Ends all memberships.
  void EndMemberships();

  // The first message since the last call that `matches`; those before it are dropped. A default one after
  // kTestDeadline.
  v1::WorkerMessage Expect(const std::function<bool(const v1::WorkerMessage&)>& matches);
  v1::Hello ExpectHello();
  v1::LoadDone ExpectDone(uint64_t epoch);
  // Names of the tensors that were fetched.
  std::vector<std::string> fetched();

 private:
  using JoinStream = grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>;

  grpc::Status Join(grpc::ServerContext* context, JoinStream* stream) override;
  grpc::Status FetchHeader(grpc::ServerContext* context, const v1::FetchHeaderRequest* request,
                           grpc::ServerWriter<v1::FileChunk>* writer) override;
  grpc::Status FetchTensors(grpc::ServerContext* context, const v1::FetchTensorsRequest* request,
                            grpc::ServerWriter<v1::TensorChunk>* writer) override;

  std::unique_ptr<links::PipelineService> pipeline_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;

  absl::Mutex mu_;
  std::vector<std::byte> bytes_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<engine::GgufFile> file_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, JoinStream*> streams_ ABSL_GUARDED_BY(mu_);  // by address
  std::string last_joined_ ABSL_GUARDED_BY(mu_);
  std::vector<grpc::ServerContext*> contexts_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::WorkerMessage> messages_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> fetched_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::testing
