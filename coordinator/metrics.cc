#include "coordinator/metrics.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tandem::coordinator {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// From a step of a tiny model on a warm machine (0.1 ms) to a prefill chunk of a large one on a slow machine.
const Buckets& StepBuckets() {
  static const auto& buckets =
      *new Buckets{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  return buckets;
}

// From a short prompt of a small model to a long one that waits in the queue.
const Buckets& FirstTokenBuckets() {
  static const auto& buckets = *new Buckets{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
  return buckets;
}

// Values that are read when they are asked for.
class StatsCollectable : public prometheus::Collectable {
 public:
  explicit StatsCollectable(std::function<DispatcherStats()> stats) : stats_(std::move(stats)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const DispatcherStats stats = stats_();
    std::vector<prometheus::MetricFamily> families;
    const auto add = [&families](const char* name, const char* help, prometheus::MetricType type) {
      families.push_back(prometheus::MetricFamily{name, help, type, {}});
    };
    const auto sample = [&families](const std::string& key, const std::string& label, double value) {
      prometheus::ClientMetric metric;
      if (!key.empty()) metric.label.push_back({key, label});
      metric.gauge.value = metric.counter.value = value;
      families.back().metric.push_back(std::move(metric));
    };
    add("coordinator_kv_pages", "KV pages of all pipelines", prometheus::MetricType::Gauge);
    sample("state", "used", stats.kv_pages_used);
    sample("state", "idle", stats.kv_pages_idle);
    sample("state", "total", stats.kv_pages_total);
    add("coordinator_sequences", "Generations under way", prometheus::MetricType::Gauge);
    sample("state", "running", stats.running);
    sample("state", "waiting", stats.waiting);
    add("coordinator_link_bytes_total", "Bytes of step frames", prometheus::MetricType::Counter);
    sample("direction", "out", static_cast<double>(stats.bytes_out));
    sample("direction", "in", static_cast<double>(stats.bytes_in));
    add("coordinator_epoch", "Placement that serves, the latest one; 0: none", prometheus::MetricType::Gauge);
    sample("", "", static_cast<double>(stats.epoch));
    add("coordinator_pipelines", "Pipelines that serve", prometheus::MetricType::Gauge);
    sample("", "", stats.pipelines);
    return families;
  }

 private:
  const std::function<DispatcherStats()> stats_;
};

}  // namespace

struct CoordinatorMetrics::Parts {
  prometheus::Family<prometheus::Counter>& Counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(*registry);
  }
  void ObserveStep(const std::string& pipeline, const std::string& stage, const char* part, double seconds) {
    step.Add({{"pipeline", pipeline}, {"stage", stage}, {"part", part}}, StepBuckets()).Observe(seconds);
  }

  const std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Counter>& requests =
      Counter("coordinator_requests_total", "Generations ended, by outcome");
  prometheus::Family<prometheus::Counter>& tokens =
      Counter("coordinator_tokens_total", "Prompt tokens taken (in) and tokens generated (out)");
  prometheus::Counter& tokens_in = tokens.Add({{"direction", "in"}});
  prometheus::Counter& tokens_out = tokens.Add({{"direction", "out"}});
  prometheus::Counter& cached_tokens =
      Counter("coordinator_cached_tokens_total", "Prompt tokens that were computed for another request").Add({});
  prometheus::Family<prometheus::Counter>& guesses =
      Counter("coordinator_guessed_tokens_total", "Tokens guessed ahead, by what became of them");
  prometheus::Counter& right_guesses = guesses.Add({{"outcome", "right"}});
  prometheus::Counter& wrong_guesses = guesses.Add({{"outcome", "wrong"}});
  prometheus::Histogram& first_token = prometheus::BuildHistogram()
                                           .Name("coordinator_time_to_first_token_seconds")
                                           .Help("From a request's arrival to its first token")
                                           .Register(*registry)
                                           .Add({}, FirstTokenBuckets());
  prometheus::Family<prometheus::Histogram>& step = prometheus::BuildHistogram()
                                                        .Name("coordinator_step_seconds")
                                                        .Help("Time of a step by pipeline, stage and part")
                                                        .Register(*registry);
  std::shared_ptr<StatsCollectable> stats;
  std::unique_ptr<prometheus::Exposer> exposer;  // last: it ends before what it reads
};

CoordinatorMetrics::CoordinatorMetrics() : parts_(std::make_unique<Parts>()) {}
CoordinatorMetrics::~CoordinatorMetrics() = default;

absl::Status CoordinatorMetrics::Serve(const std::string& listen, std::function<DispatcherStats()> stats) {
  parts_->stats = std::make_shared<StatsCollectable>(std::move(stats));
  try {
    parts_->exposer = std::make_unique<prometheus::Exposer>(listen);
    parts_->exposer->RegisterCollectable(parts_->registry);
    parts_->exposer->RegisterCollectable(parts_->stats);
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics at ", listen, ": is the port in use? (", error.what(), ")"));
  }
  return absl::OkStatus();
}

int CoordinatorMetrics::port() const {
  if (parts_->exposer == nullptr) return 0;
  const std::vector<int> ports = parts_->exposer->GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

void CoordinatorMetrics::StopServing() { parts_->exposer.reset(); }

void CoordinatorMetrics::OnStep(const StepReport& report) {
  const std::string pipeline = absl::StrCat(report.pipeline);
  double wire_s = report.first_wire_s;  // of the hop to the stage
  for (size_t i = 0; i < report.stages.size(); ++i) {
    const std::string stage = absl::StrCat(i);
    if (wire_s > 0) parts_->ObserveStep(pipeline, stage, "wire", wire_s);
    parts_->ObserveStep(pipeline, stage, "queue", report.stages[i].queue_s);
    parts_->ObserveStep(pipeline, stage, "compute", report.stages[i].compute_s);
    wire_s = report.stages[i].wire_s;
  }
  if (wire_s > 0) parts_->ObserveStep(pipeline, "return", "wire", wire_s);
  parts_->ObserveStep(pipeline, "all", "round_trip", report.round_trip_s);
}

void CoordinatorMetrics::OnFirstToken(double seconds_since_arrival) {
  parts_->first_token.Observe(seconds_since_arrival);
}

void CoordinatorMetrics::OnFinished(absl::StatusCode code, const GenerationResult& result) {
  const std::string outcome = absl::AsciiStrToLower(absl::StatusCodeToString(code));
  parts_->requests.Add({{"outcome", outcome}}).Increment();
  parts_->tokens_in.Increment(result.prompt_tokens);
  parts_->tokens_out.Increment(result.generated_tokens);
  parts_->cached_tokens.Increment(result.cached_tokens);
  parts_->right_guesses.Increment(result.right_guesses);
  parts_->wrong_guesses.Increment(result.guessed_tokens - result.right_guesses);
}

}  // namespace tandem::coordinator
