#include "worker/metrics.h"

#include <exception>
#include <utility>

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

// From a step of a tiny model on a warm machine (0.1 ms) to a prefill chunk of a large one on a slow machine.
const prometheus::Histogram::BucketBoundaries& StepBuckets() {
  static const auto& buckets = *new prometheus::Histogram::BucketBoundaries{
      0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  return buckets;
}

}  // namespace

struct WorkerMetrics::Families {
  using Registry = prometheus::Registry;

  prometheus::Histogram& Step(const char* part) {
    return prometheus::BuildHistogram()
        .Name("worker_step_seconds")
        .Help("Time of a step on this stage, by part")
        .Register(*registry)
        .Add({{"part", part}}, StepBuckets());
  }
  prometheus::Counter& Counter(const char* name, const char* help, const prometheus::Labels& labels) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(*registry).Add(labels);
  }
  prometheus::Gauge& Gauge(const char* name, const char* help, const prometheus::Labels& labels) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(*registry).Add(labels);
  }
  prometheus::Counter& LinkBytes(const char* direction) {
    return Counter("worker_link_bytes_total", "Bytes of step frames", {{"direction", direction}});
  }
  prometheus::Counter& LoadBytes(const char* source) {
    return Counter("worker_load_bytes_total", "Bytes of tensors loaded", {{"source", source}});
  }
  prometheus::Gauge& Memory(const char* kind) {
    return Gauge("worker_memory_bytes", "Memory that the stage holds", {{"kind", kind}});
  }

  const std::shared_ptr<Registry> registry = std::make_shared<Registry>();
  prometheus::Histogram& queue = Step("queue");
  prometheus::Histogram& compute = Step("compute");
  prometheus::Histogram& wire = Step("wire");
  prometheus::Counter& tokens = Counter("worker_tokens_total", "Tokens of executed steps", {});
  prometheus::Counter& bytes_in = LinkBytes("in");
  prometheus::Counter& bytes_out = LinkBytes("out");
  prometheus::Counter& load_file = LoadBytes("file");
  prometheus::Counter& load_network = LoadBytes("network");
  prometheus::Gauge& weights = Memory("weights");
  prometheus::Gauge& kv = Memory("kv");
  prometheus::Gauge& scratch = Memory("scratch");
  prometheus::Gauge& kv_pages = Gauge("worker_kv_pages", "KV pages of the stage", {});
  prometheus::Gauge& epoch = Gauge("worker_epoch", "Placement that is served; 0: none", {});
  std::unique_ptr<prometheus::Exposer> exposer;  // last: it ends before what it reads
};

absl::StatusOr<std::unique_ptr<WorkerMetrics>> WorkerMetrics::Create(const std::string& listen) {
  auto families = std::make_unique<Families>();
  if (!listen.empty()) {
    try {
      families->exposer = std::make_unique<prometheus::Exposer>(listen);
      families->exposer->RegisterCollectable(families->registry);
    } catch (const std::exception& error) {
      return absl::UnavailableError(
          absl::StrCat("cannot serve metrics at ", listen, ": is the port in use? (", error.what(), ")"));
    }
  }
  return std::unique_ptr<WorkerMetrics>(new WorkerMetrics(std::move(families)));
}

WorkerMetrics::WorkerMetrics(std::unique_ptr<Families> families) : families_(std::move(families)) {}
WorkerMetrics::~WorkerMetrics() = default;

void WorkerMetrics::ObserveStep(const links::StepCost& cost) {
  families_->queue.Observe(cost.queue_s);
  families_->compute.Observe(cost.compute_s);
  families_->tokens.Increment(static_cast<double>(cost.tokens));
  families_->bytes_in.Increment(static_cast<double>(cost.bytes_in));
  families_->bytes_out.Increment(static_cast<double>(cost.bytes_out));
}

void WorkerMetrics::ObserveWire(double seconds) { families_->wire.Observe(seconds); }

void WorkerMetrics::CountLoad(bool from_local_file, uint64_t bytes) {
  (from_local_file ? families_->load_file : families_->load_network).Increment(static_cast<double>(bytes));
}

void WorkerMetrics::SetStage(uint64_t epoch, const engine::StageMemory& memory, int64_t kv_pages) {
  families_->weights.Set(static_cast<double>(memory.weights));
  families_->kv.Set(static_cast<double>(memory.kv));
  families_->scratch.Set(static_cast<double>(memory.scratch));
  families_->kv_pages.Set(static_cast<double>(kv_pages));
  families_->epoch.Set(static_cast<double>(epoch));
}

int WorkerMetrics::port() const {
  if (families_->exposer == nullptr) return 0;
  const std::vector<int> ports = families_->exposer->GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

}  // namespace tandem::worker
