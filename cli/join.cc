// `tandem join`: this machine becomes a worker of a cluster until Ctrl-C.
#include <cstdio>
#include <memory>
#include <string>

#include "cli/command.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"
#include "worker/config.h"
#include "worker/worker.h"

namespace tandem::cli {
namespace {

absl::Status Run(worker::WorkerConfig config, bool listen_given) {
  Interrupt interrupt;
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(config.coordinator, &host, &port));
  // The others of a cluster beyond this machine must reach this worker too.
  if (!listen_given && !proto_support::IsLoopback(host)) config.listen = "0.0.0.0:0";
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<worker::Worker> worker, worker::Worker::Start(config));
  std::fprintf(stderr, "joining %s; Ctrl-C leaves the cluster\n", config.coordinator.c_str());

  interrupt.OnInterrupt([&worker] { worker->Stop(); });
  absl::Status ended = worker->Wait();
  interrupt.OnInterrupt({});
  return ended;
}

}  // namespace

void AddJoin(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("join", "Make this machine a worker of a cluster, until Ctrl-C");
  auto config = std::make_shared<worker::WorkerConfig>();
  command->add_option("COORDINATOR", config->coordinator, "host:port that `tandem up` printed")->required();
  worker::AddWorkerFlags(*command, config.get());
  CLI::Option* listen = command->get_option("--listen");
  command->callback(
      [config, listen, action] { *action = [config, given = listen->count() > 0] { return Run(*config, given); }; });
}

}  // namespace tandem::cli
