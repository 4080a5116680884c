// What the coordinator tells Prometheus, at http://<listen>/metrics:
//
//   coordinator_requests_total{outcome}                  generations ended, by status: "ok", "cancelled",
//   "invalid_argument"... coordinator_tokens_total{direction="in|out"}         prompt tokens taken, tokens generated
//   coordinator_time_to_first_token_seconds              histogram, from arrival
//   coordinator_step_seconds{pipeline, stage, part="compute|queue|wire"}
//                                                        histogram of each step; wire: the hop to the stage (stage
//                                                        "return": back to here) as its sender measured it last, from
//                                                        hand-over to acknowledgement
//   coordinator_step_seconds{pipeline, stage="all", part="round_trip"}
//   coordinator_kv_pages{state="used|total"}
//   coordinator_sequences{state="running|waiting"}
//   coordinator_link_bytes_total{direction="in|out"}     step frames from the last stage, to the first stage
//   coordinator_epoch                                    placement that serves, the latest one; 0: none
//   coordinator_pipelines                                pipelines that serve
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/dispatcher.h"

namespace tandem::coordinator {

// Thread-safe.
class CoordinatorMetrics : public DispatcherObserver {
 public:
  CoordinatorMetrics();
  ~CoordinatorMetrics() override;
  CoordinatorMetrics(const CoordinatorMetrics&) = delete;
  CoordinatorMetrics& operator=(const CoordinatorMetrics&) = delete;

  // Serves at `listen` (host:port; port 0: any) until destroyed; `stats` is asked at each scrape. Errors: kUnavailable
  // (the port is in use or cannot be had; names the address).
  absl::Status Serve(const std::string& listen, std::function<DispatcherStats()> stats);
  int port() const;  // of the listener; 0 without one
  // Ends the listener; `stats` is not called any more.
  void StopServing();

  void OnStep(const StepReport& report) override;
  void OnFirstToken(double seconds_since_arrival) override;
  void OnFinished(absl::StatusCode code, const GenerationResult& result) override;

 private:
  struct Parts;
  const std::unique_ptr<Parts> parts_;
};

}  // namespace tandem::coordinator
