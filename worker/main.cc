// tandem-worker: the daemon that lends this machine to a cluster. Exit codes: 0 stopped by a signal, 1 failure, 2
// usage.
#include <memory>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>

#include "engine/base/interrupt.h"
#include "proto/support/channel.h"
#include "worker/config.h"
#include "worker/worker.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

int Run(const tandem::worker::WorkerConfig& config) {
  tandem::Interrupt interrupt;
  absl::StatusOr<std::unique_ptr<tandem::worker::Worker>> worker = tandem::worker::Worker::Start(config);
  if (!worker.ok()) {
    spdlog::error("{}", std::string(worker.status().message()));
    return kFailure;
  }
  interrupt.OnInterrupt([&worker] {
    spdlog::info("stopping");
    (*worker)->Stop();
  });
  const absl::Status status = (*worker)->Wait();
  interrupt.OnInterrupt({});
  if (status.ok()) return 0;
  spdlog::error("{}", std::string(status.message()));
  return kFailure;
}

}  // namespace

int main(int argc, char** argv) {
  tandem::proto_support::PrepareGrpc();
  spdlog::set_default_logger(spdlog::stderr_color_mt("tandem-worker"));
  CLI::App app("Lends this machine to a Tandem cluster: holds some layers of its model and computes them.",
               "tandem-worker");
  tandem::worker::WorkerConfig config;
  std::string log_level = "info";
  app.add_option("--coordinator", config.coordinator, "host:port of the coordinator")->required();
  tandem::worker::AddWorkerFlags(app, &config);
  app.add_option("--log-level", log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.set_config("--config", "", "Read settings from a TOML file: the flags' names without the dashes");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_version_flag("--version", "tandem-worker " TANDEM_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  spdlog::set_level(spdlog::level::from_str(log_level));
  return Run(config);
}
