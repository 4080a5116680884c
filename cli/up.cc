// `tandem up`: a coordinator and a worker on this machine, and the line that adds the next one.
#include <cstdio>
#include <memory>
#include <string>

#include "cli/command.h"
#include "coordinator/config.h"
#include "coordinator/server.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/cpu_features.h"
#include "proto/support/channel.h"
#include "worker/worker.h"

namespace tandem::cli {
namespace {

struct Flags {
  coordinator::CoordinatorConfig coordinator;
  worker::WorkerConfig worker;
};

void PrintWelcome(const std::string& server, bool insecure) {
  std::printf("Tandem is up at %s.\n", server.c_str());
  std::printf("On another machine:   tandem join %s%s\n", server.c_str(), insecure ? " --insecure" : "");
  std::printf("Talk with the model:  tandem chat --server %s\n", server.c_str());
  std::printf("Ctrl-C stops.\n");
  std::fflush(stdout);
}

absl::Status Run(Flags flags) {
  Interrupt interrupt;
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(flags.coordinator.listen, &host, &port));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<coordinator::Coordinator> coordinator,
                          coordinator::Coordinator::Start(flags.coordinator));
  flags.worker.coordinator = coordinator->address();
  flags.worker.listen = proto_support::JoinAddress(host, 0);
  flags.worker.insecure = flags.coordinator.insecure;
  flags.worker.model_paths = {flags.coordinator.model_path};
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<worker::Worker> worker, worker::Worker::Start(flags.worker));
  PrintWelcome(coordinator->address(), flags.coordinator.insecure);

  // The worker leaves first, so that the coordinator does not take its going for a failure.
  interrupt.OnInterrupt([&worker] { worker->Stop(); });
  absl::Status ended = worker->Wait();
  interrupt.OnInterrupt({});
  coordinator->Stop();
  return ended;
}

}  // namespace

void AddUp(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("up", "Serve a model from this machine, and let others join");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->coordinator.model_path, "GGUF file")->required();
  coordinator::AddCoordinatorFlags(*command, &flags->coordinator);
  const std::string group = "This machine's worker";
  command->add_option("--name", flags->worker.name, "Its name (default: the host's)")->group(group);
  command->add_option("--threads", flags->worker.threads, "Threads that compute; 0: one a physical core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->group(group);
  command->add_option("--memory", flags->worker.memory_bytes, "Most memory to use, such as 24G (default: what is free)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->group(group);
  command->add_option("--cpu-isa", flags->worker.isa, "Kernels: " + engine::IsaChoices())
      ->default_str("auto")
      ->group(group);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
