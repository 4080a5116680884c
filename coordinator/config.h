// The settings of a coordinator as command-line flags, which CLI11 also reads from a --config file.
#pragma once

#include "coordinator/server.h"

namespace CLI {
class App;
}

namespace tandem::coordinator {

// Adds every setting but `model_path`, which tandem-coordinator takes as a flag and `tandem up` as an argument.
// `config` must live as long as `app`.
void AddCoordinatorFlags(CLI::App& app, CoordinatorConfig* config);

}  // namespace tandem::coordinator
