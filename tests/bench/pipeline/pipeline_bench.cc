// The cost of a decode step over two loopback workers beside the same step in one process, with its split into parts.
// The model has two tiny layers, one a worker, so that what is left is what the pipeline itself costs.
//   build/bench/bin/pipeline_bench [--steps 2000]
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <latch>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "cli/local_cluster.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"
#include "tests/bench/pipeline/loopback_pipeline.h"
#include "tests/support/tiny_model.h"

namespace tandem {
namespace {

// Median of what the observer was told of each step, in microseconds.
class StepRecorder : public coordinator::DispatcherObserver {
 public:
  void OnStep(const coordinator::StepReport& report) override {
    double compute = 0, queue = 0;
    for (const auto& stage : report.stages) compute += stage.compute_s, queue += stage.queue_s;
    total_.push_back(report.round_trip_s * 1e6);
    compute_.push_back(compute * 1e6);
    queue_.push_back(queue * 1e6);
    wire_.push_back((report.round_trip_s - compute - queue) * 1e6);
  }
  void OnFirstToken(double) override {}
  void OnFinished(absl::StatusCode, const coordinator::GenerationResult&) override {}

  double Print(const char* name) {
    const double total = Median(&total_);
    std::printf("%-34s %9.1f %9.1f %9.1f %9.1f  (%zu steps)\n", name, total, Median(&compute_), Median(&queue_),
                Median(&wire_), total_.size());
    return total;
  }

 private:
  static double Median(std::vector<double>* values) {
    std::nth_element(values->begin(), values->begin() + values->size() / 2, values->end());
    return (*values)[values->size() / 2];
  }
  std::vector<double> total_, compute_, queue_, wire_;
};

v1::GenerateRequest Request(uint32_t steps) {
  v1::GenerateRequest request;
  for (uint32_t id : {5, 6, 7}) request.mutable_ids()->add_ids(id);
  request.set_max_tokens(steps);
  request.set_ignore_end_of_turn(true);
  return request;
}

absl::Status Generate(const coordinator::ServedModel& model, coordinator::Dispatcher& dispatcher, uint32_t steps) {
  coordinator::Generator generator(model, dispatcher);
  std::latch done(1);
  absl::Status ended;
  TANDEM_ASSIGN_OR_RETURN(
      const auto generation,
      generator.Start(Request(steps), [&](const v1::GenerateResponse&, bool last, const absl::Status& status) {
        if (!last) return;
        ended = status;
        done.count_down();
      }));
  done.wait();
  return ended;
}

absl::Status RunLocal(const std::string& model, int workers, uint32_t steps, StepRecorder* recorder) {
  cli::LocalClusterOptions options;
  options.model_path = model;
  options.workers = workers;
  options.threads = 1;
  options.isa = engine::DetectIsa();
  options.max_guessed_tokens = 0;  // as behind gRPC below
  options.observer = recorder;
  TANDEM_ASSIGN_OR_RETURN(const auto cluster, cli::LocalCluster::Create(options));
  return Generate(cluster->model(), cluster->dispatcher(), steps);
}

// The same parts as an embedded cluster of two workers, but the three hops go through gRPC.
absl::Status RunGrpc(const std::string& model, uint32_t steps, StepRecorder* recorder) {
  TANDEM_ASSIGN_OR_RETURN(const auto served, coordinator::ServedModel::Open(model));
  coordinator::Dispatcher::Options options;
  options.vocab = served->spec().vocab;
  options.observer = recorder;
  coordinator::Dispatcher dispatcher(std::move(options));
  engine::FileTensorSource source(served->file());
  coordinator::PipelineSpec pipeline{.epoch = 1, .context = served->spec().context};
  pipeline.num_pages = pipeline.context / pipeline.page_tokens + 1;
  std::vector<std::unique_ptr<engine::Stage>> stages;
  for (int i = 0; i < 2; ++i) {
    engine::StageOptions stage{.first_layer = i, .end_layer = i + 1, .num_pages = pipeline.num_pages};
    stage.isa = engine::DetectIsa();
    stage.threads = 1;
    stage.pin_threads = false;
    TANDEM_ASSIGN_OR_RETURN(stages.emplace_back(),
                            engine::Stage::Load(served->spec(), served->file(), source, stage, nullptr, nullptr));
  }
  TANDEM_ASSIGN_OR_RETURN(const auto loopback,
                          bench::LoopbackPipeline::Start(std::move(stages), served->spec(), pipeline, dispatcher));
  const absl::Status status = Generate(*served, dispatcher, steps);
  dispatcher.Stop();
  return status;
}

int Main(uint32_t steps) {
  const std::string model = absl::StrCat("/tmp/tandem-bench-", getpid(), ".gguf");
  testing::TinyModelShape shape;
  shape.layers = 2;
  shape.context = static_cast<int32_t>(steps) + 16;
  absl::Status status = testing::MakeTinyModel(shape).Write(model);
  std::printf("%-34s %9s %9s %9s %9s\n", "median microseconds of a step", "total", "compute", "queue", "wire");
  StepRecorder one, memory, grpc;
  if (status.ok()) status = RunLocal(model, 1, steps, &one);
  if (status.ok()) status = RunLocal(model, 2, steps, &memory);
  if (status.ok()) status = RunGrpc(model, steps, &grpc);
  std::remove(model.c_str());
  if (!status.ok()) {
    std::fprintf(stderr, "pipeline_bench: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  const double alone = one.Print("one stage, in one process");
  memory.Print("two stages, in one process");
  const double split = grpc.Print("two workers, gRPC on loopback");
  std::printf("two workers cost %.1f microseconds a step more than one process\n", split - alone);
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::proto_support::PrepareGrpc();
  CLI::App app("What a hop of the pipeline costs");
  uint32_t steps = 2000;
  app.add_option("--steps", steps, "Decode steps of each variant")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return tandem::Main(steps);
}
