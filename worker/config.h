// The settings of a worker as command-line flags, which CLI11 also reads from a --config file.
#pragma once

#include "worker/worker.h"

namespace CLI {
class App;
}

namespace tandem::worker {

// Adds every setting but `coordinator`, which tandem-worker takes as a flag and `tandem join` as an argument. `config`
// must live as long as `app`.
void AddWorkerFlags(CLI::App& app, WorkerConfig* config);

}  // namespace tandem::worker
