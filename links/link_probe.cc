#include "links/link_probe.h"

#include <algorithm>
#include <array>

#include <grpcpp/client_context.h>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"
#include "proto/support/status_convert.h"
#include "tandem/v1/pipeline.grpc.pb.h"

namespace tandem::links {
namespace {

constexpr size_t kFirstPayload = 64 << 10, kLargestPayload = 4 << 20;
// A payload that takes this much longer than an empty one is timed well enough.
constexpr double kLongEnoughS = 0.01;
constexpr int kRepeats = 3;

class Prober {
 public:
  Prober(const std::string& address, absl::Time deadline)
      : stub_(v1::Pipeline::NewStub(proto_support::MakeChannel(address))), deadline_(deadline) {}

  // Seconds of a call.
  absl::StatusOr<double> Time(size_t payload_bytes) {
    v1::ProbeRequest request;
    request.set_payload(std::string(payload_bytes, '\0'));
    v1::ProbeReply reply;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(deadline_));
    const absl::Time begin = absl::Now();
    TANDEM_RETURN_IF_ERROR(proto_support::FromGrpc(stub_->Probe(&context, request, &reply)));
    return absl::ToDoubleSeconds(absl::Now() - begin);
  }

 private:
  const std::unique_ptr<v1::Pipeline::Stub> stub_;
  const absl::Time deadline_;
};

}  // namespace

absl::StatusOr<LinkSpeed> MeasureLink(const std::string& address, absl::Duration limit) {
  Prober prober(address, absl::Now() + limit);
  TANDEM_RETURN_IF_ERROR(prober.Time(0).status());  // connects
  std::array<double, 9> empty;
  for (double& seconds : empty) {
    TANDEM_ASSIGN_OR_RETURN(seconds, prober.Time(0));
  }
  std::nth_element(empty.begin(), empty.begin() + empty.size() / 2, empty.end());
  LinkSpeed speed;
  speed.round_trip_s = empty[empty.size() / 2];
  // Differences below the clock's and the scheduler's noise are taken for that noise.
  const auto transfer_s = [&](double seconds) { return std::max(seconds - speed.round_trip_s, 1e-6); };
  size_t bytes = kFirstPayload;
  double best_s = 0;
  for (;; bytes *= 4) {
    TANDEM_ASSIGN_OR_RETURN(const double seconds, prober.Time(bytes));
    best_s = transfer_s(seconds);
    if (best_s >= kLongEnoughS || bytes >= kLargestPayload) break;
  }
  for (int i = 1; i < kRepeats; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const double seconds, prober.Time(bytes));
    best_s = std::min(best_s, transfer_s(seconds));
  }
  speed.bytes_per_s = static_cast<double>(bytes) / best_s;
  return speed;
}

}  // namespace tandem::links
