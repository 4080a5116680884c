// `tandem status`: who is in the cluster, which layers each holds, and how it does.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/cluster_text.h"
#include "cli/command.h"
#include "cli/remote_model.h"
#include "engine/base/interrupt.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string server = "127.0.0.1:7070";
  double wait_s = 0;
};

// How often --wait looks.
constexpr absl::Duration kPollInterval = absl::Milliseconds(200);

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  const absl::Time deadline = absl::Now() + absl::Seconds(flags.wait_s);
  while (true) {
    const absl::StatusOr<v1::ClusterState> state = FetchState(flags.server);
    const bool serving = state.ok() && state->phase() == v1::PHASE_SERVING;
    const bool last = flags.wait_s <= 0 || absl::Now() >= deadline;
    if (serving || last) {
      if (!state.ok()) return state.status();
      std::fputs(FormatState(*state).c_str(), stdout);
      if (!serving && flags.wait_s > 0) {
        return absl::DeadlineExceededError(
            absl::StrFormat("not serving after %.0f s: %s", flags.wait_s, state->detail()));
      }
      return absl::OkStatus();
    }
    absl::SleepFor(kPollInterval);
    if (interrupt.requested()) return absl::CancelledError("interrupted");
  }
}

}  // namespace

void AddStatus(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("status", "Show the cluster: workers, layers, memory, progress");
  auto flags = std::make_shared<Flags>();
  command->add_option("--server", flags->server, "Coordinator, host:port")->capture_default_str();
  command->add_option("--wait", flags->wait_s,
                      "Wait up to this many seconds until the cluster serves; fails if it does not");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
