// tandem-coordinator: the daemon that serves a model over the workers that join it. Exit codes: 0 stopped by a signal,
// 1 failure, 2 usage.
#include <memory>
#include <string>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>

#include "coordinator/config.h"
#include "coordinator/server.h"
#include "engine/base/interrupt.h"
#include "proto/support/channel.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

int Run(const tandem::coordinator::CoordinatorConfig& config) {
  tandem::Interrupt interrupt;
  const auto coordinator = tandem::coordinator::Coordinator::Start(config);
  if (!coordinator.ok()) {
    spdlog::error("{}", std::string(coordinator.status().message()));
    return kFailure;
  }
  interrupt.Wait();
  spdlog::info("stopping");
  (*coordinator)->Stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  tandem::proto_support::PrepareGrpc();
  spdlog::set_default_logger(spdlog::stderr_color_mt("tandem-coordinator"));
  CLI::App app("Serves a model over gRPC, its layers spread over the workers that join.", "tandem-coordinator");
  tandem::coordinator::CoordinatorConfig config;
  std::string log_level = "info";
  app.add_option("--model", config.model_path, "GGUF file of the model")->required();
  tandem::coordinator::AddCoordinatorFlags(app, &config);
  app.add_option("--log-level", log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.set_config("--config", "", "Read settings from a TOML file: the flags' names without the dashes");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_version_flag("--version", "tandem-coordinator " TANDEM_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  spdlog::set_level(spdlog::level::from_str(log_level));
  return Run(config);
}
