#include "worker/worker.h"

#include <chrono>

#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <spdlog/spdlog.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/cpu_features.h"
#include "links/grpc_link.h"
#include "proto/support/advertise.h"
#include "proto/support/channel.h"
#include "proto/support/protocol_version.h"
#include "worker/cluster_client.h"
#include "worker/device_probe.h"
#include "worker/metrics.h"
#include "worker/stage_host.h"

namespace tandem::worker {
namespace {

constexpr std::chrono::seconds kShutdownGrace{1};

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "worker";
  return name;
}

// Says which setting it is about.
absl::Status Setting(const char* name, const absl::Status& status) {
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

absl::Status CheckConfig(const WorkerConfig& config) {
  using proto_support::CheckListenAddress;
  using proto_support::ParseAddress;
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(Setting("coordinator", ParseAddress(config.coordinator, &host, &port)));
  TANDEM_RETURN_IF_ERROR(Setting("listen", CheckListenAddress(config.listen, config.insecure)));
  if (!config.metrics_listen.empty()) {
    TANDEM_RETURN_IF_ERROR(Setting("metrics", CheckListenAddress(config.metrics_listen, config.insecure)));
  }
  if (!config.advertise.empty()) {
    TANDEM_RETURN_IF_ERROR(Setting("advertise", ParseAddress(config.advertise, &host, &port)));
  }
  if (config.threads < 0) {
    return absl::InvalidArgumentError(absl::StrCat("threads is ", config.threads, ", expected 0 or more"));
  }
  for (const std::string& path : config.model_paths) {
    std::error_code error;
    if (!std::filesystem::exists(path, error))
      return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
  }
  return absl::OkStatus();
}

}  // namespace

// In the order in which they are made; they end in the reverse order.
struct Worker::Parts {
  std::unique_ptr<WorkerMetrics> metrics;
  std::unique_ptr<links::PipelineService> pipeline;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<v1::Cluster::Stub> coordinator;
  std::unique_ptr<StageHost> host;
  std::unique_ptr<ClusterClient> client;
  int port = 0;

  absl::Mutex stop_mu;  // held by the Stop that does the work
  absl::Mutex mu;
  bool ended ABSL_GUARDED_BY(mu) = false;
  absl::Status result ABSL_GUARDED_BY(mu);

  void End(absl::Status status) {
    absl::MutexLock lock(&mu);
    if (ended) return;
    ended = true;
    result = std::move(status);
  }
  absl::Status Listen(const std::string& address);
  ClusterHandlers Handlers();
};

absl::Status Worker::Parts::Listen(const std::string& address) {
  grpc::ServerBuilder builder;
  proto_support::ConfigureServer(builder);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(pipeline->service());
  server = builder.BuildAndStart();
  if (server != nullptr && port != 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": the port is in use, or the address is not this machine's"));
}

ClusterHandlers Worker::Parts::Handlers() {
  ClusterHandlers handlers;
  handlers.heartbeat = [this] { return host->heartbeat(); };
  handlers.on_welcome = [](const v1::Welcome& welcome) {
    spdlog::info("joined as {} (worker {})", welcome.name(), welcome.worker_id());
  };
  handlers.on_place = [this](const v1::Place& place) { host->Place(place); };
  handlers.on_unload = [this](const v1::Unload& unload) { host->Unload(unload.epoch()); };
  handlers.on_send_as = [this](const v1::SendAs& send_as) { host->SendAs(send_as); };
  handlers.on_lost = [this](const absl::Status&) { host->Drop("the coordinator is lost"); };
  handlers.on_refused = [this](const absl::Status& why) { End(why); };
  return handlers;
}

// Start order: settings, what may be taken already (ports), measurements, stage host, and last the membership, since
// from then on the coordinator may call on all the others.
absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const WorkerConfig& config) {
  TANDEM_RETURN_IF_ERROR(CheckConfig(config));
  TANDEM_ASSIGN_OR_RETURN(const engine::Isa isa, engine::ParseIsa(config.isa));
  auto parts = std::make_unique<Parts>();
  TANDEM_ASSIGN_OR_RETURN(parts->metrics, WorkerMetrics::Create(config.metrics_listen));
  parts->pipeline = links::MakePipelineService();
  TANDEM_RETURN_IF_ERROR(parts->Listen(config.listen));
  std::unique_ptr<Worker> worker(new Worker(std::move(parts)));  // from here on ~Worker stops what runs
  Parts& p = *worker->parts_;
  TANDEM_ASSIGN_OR_RETURN(v1::Device device, ProbeDevice({.threads = config.threads,
                                                          .pin_threads = config.pin_threads,
                                                          .isa = isa,
                                                          .memory_bytes = config.memory_bytes}));
  spdlog::info("{}: {} threads, {}, {:.1f} GB of memory, {:.1f} GB/s, {:.0f} G int8 multiply-adds/s",
               device.cpu_model(), device.threads(), device.isa(), device.memory_bytes() / 1e9,
               device.memory_bandwidth() / 1e9, device.int8_macs() / 1e9);

  ClusterClientOptions client;
  client.coordinator = config.coordinator;
  client.hello.set_protocol_version(proto_support::kProtocolVersion);
  client.hello.set_name(config.name.empty() ? HostName() : config.name);
  TANDEM_ASSIGN_OR_RETURN(std::string address, proto_support::AdvertisedAddress(config.advertise, config.listen, p.port,
                                                                                config.coordinator));
  client.hello.set_address(address);
  StageHostOptions host;
  host.loader = {.model_paths = config.model_paths,
                 .memory_bytes = device.memory_bytes(),
                 .isa = isa,
                 .threads = static_cast<int>(device.threads()),
                 .pin_threads = config.pin_threads};
  host.terminal = isatty(STDERR_FILENO) != 0;
  *client.hello.mutable_device() = std::move(device);
  std::string listen_host;
  int listen_port = 0;
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(config.listen, &listen_host, &listen_port));
  spdlog::info("listening on {} port {}, known to others as {}", listen_host, p.port, address);
  if (config.insecure) {
    spdlog::warn(
        "--insecure: traffic is neither encrypted nor authenticated; anybody who reaches this port can use it");
  }

  p.coordinator = v1::Cluster::NewStub(proto_support::MakeChannel(config.coordinator));
  p.host = std::make_unique<StageHost>(std::move(host), *p.coordinator, *p.pipeline, *p.metrics,
                                       [&p](v1::WorkerMessage message) { p.client->Send(std::move(message)); });
  p.client = std::make_unique<ClusterClient>(std::move(client), *p.coordinator, p.Handlers());
  p.client->Start();
  return worker;
}

Worker::Worker(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Worker::~Worker() { Stop(); }

// Stop order: leave the cluster, so that nothing new is asked of us; drop the stage, which ends both its links; then
// the listener, whose service must outlive it.
void Worker::Stop() {
  absl::MutexLock lock(&parts_->stop_mu);
  if (parts_->client != nullptr) parts_->client->Stop();
  if (parts_->host != nullptr) parts_->host->Stop();
  parts_->pipeline->StopServing();
  // Health and reflection streams may be open; they do not end by themselves.
  parts_->server->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  parts_->server->Wait();
  parts_->End(absl::OkStatus());
}

absl::Status Worker::Wait() {
  absl::MutexLock lock(&parts_->mu);
  parts_->mu.Await(absl::Condition(&parts_->ended));
  return parts_->result;
}

int Worker::port() const { return parts_->port; }

int Worker::metrics_port() const { return parts_->metrics->port(); }

}  // namespace tandem::worker
