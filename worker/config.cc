#include "worker/config.h"

#include <CLI/CLI.hpp>

#include "engine/cpu/cpu_features.h"

namespace tandem::worker {

void AddWorkerFlags(CLI::App& app, WorkerConfig* config) {
  app.add_option("--listen", config->listen, "Address for the other members; port 0: any free one")
      ->capture_default_str();
  app.add_option("--advertise", config->advertise,
                 "Address under which the others reach this worker (default: that of --listen)");
  app.add_option("--name", config->name, "Name shown to people (default: the host's)");
  app.add_option("--model", config->model_paths,
                 "GGUF file or folder of them (repeatable): a local copy of the cluster's model is read instead of the "
                 "network");
  app.add_option("--memory", config->memory_bytes,
                 "Most memory to use, such as 24G (default: what the machine has free)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  app.add_option("--threads", config->threads, "Threads that compute; 0: one a physical core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--cpu-isa", config->isa, "Kernels: " + engine::IsaChoices())->default_str("auto");
  app.add_option("--metrics", config->metrics_listen,
                 "Serve Prometheus metrics at this address, such as 127.0.0.1:9101");
  app.add_flag("--insecure", config->insecure, "Listen beyond loopback although nothing is encrypted or authenticated");
  app.add_flag("!--no-pin", config->pin_threads, "Do not tie threads to cores (several workers on one machine)");
}

}  // namespace tandem::worker
