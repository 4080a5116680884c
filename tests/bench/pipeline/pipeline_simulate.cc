// What run.py's loads would take on stages whose costs are given, in virtual time. Reads from standard input
//   {"stages": [{"decode": [[1, 0.03], [8, 0.05]], "prefill": [[64, 0.3], [192, 0.9]], "pair_s": 1e-8}, ...],
//    "hop_s": 0.0004, "num_pages": 2048, "page_tokens": 32, "max_step_tokens": 512, "context": 4096,
//    "clients": [[{"prompt": 16, "max_tokens": 64}], ...]}
// where a stage's seconds are given for steps of some sizes, ascending, straight between two of them and in proportion
// below the first; steps that hold a chunk of prefill take those of "prefill". pair_s more goes to each pair of a token
// and a key that it attends to. hop_s is the time of each hop. Prints the same lines as pipeline_clients, all clients
// beginning at 0. A client has one request.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "coordinator/dispatcher.h"
#include "coordinator/simulation/pipeline_simulation.h"

namespace tandem::coordinator {
namespace {

using nlohmann::json;

double SecondsOf(const std::vector<std::pair<double, double>>& known, double tokens) {
  std::pair<double, double> from = {0, 0}, to = known.at(0);
  for (size_t i = 1; i < known.size() && tokens > to.first; ++i) from = std::exchange(to, known[i]);
  return from.second + (to.second - from.second) * (tokens - from.first) / (to.first - from.first);
}

StageCost CostFrom(const json& stage) {
  const auto decode = stage.at("decode").get<std::vector<std::pair<double, double>>>();
  const auto prefill = stage.at("prefill").get<std::vector<std::pair<double, double>>>();
  const double pair_s = stage.at("pair_s");
  return [=](const StepWork& work) {
    return SecondsOf(work.outputs == work.tokens ? decode : prefill, work.tokens) +
           pair_s * static_cast<double>(work.pairs);
  };
}

class Printer : public SimulationObserver {
 public:
  void OnStep(const SimulatedStep& step) override {
    json line = {{"planned", step.planned_s},
                 {"end", step.planned_s + step.round_trip_s},
                 {"prefill", step.prefill_tokens},
                 {"decode", step.decode_tokens},
                 {"lost", 0}};
    for (const StageTime& stage : step.stages) {
      line["compute"].push_back(stage.compute_s);
      line["queue"].push_back(stage.queue_s);
    }
    std::puts(json({{"step", line}}).dump().c_str());
  }
  void OnAnswer(SimulatedAnswer answer) override {
    json line = {{"start", answer.due_s},
                 {"times", json::array({answer.first_token_s})},
                 {"error", std::string(answer.status.message())}};
    double at_s = answer.first_token_s;
    for (const double gap_s : answer.gaps_s) line["times"].push_back(at_s += gap_s);
    std::puts(json({{"answer", line}}).dump().c_str());
  }
};

absl::Status Simulate() {
  const json plan = json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  SimulationInput input;
  SimulatedPipeline& pipeline = input.pipelines.emplace_back();
  for (const json& stage : plan.at("stages")) pipeline.stages.push_back(CostFrom(stage));
  pipeline.links.assign(pipeline.stages.size() + 1, {.latency_s = plan.at("hop_s").get<double>()});
  pipeline.scheduler = SchedulerConfigOf({.num_stages = static_cast<int32_t>(pipeline.stages.size()),
                                          .num_pages = plan.at("num_pages"),
                                          .page_tokens = plan.at("page_tokens"),
                                          .max_step_tokens = plan.at("max_step_tokens"),
                                          .context = plan.at("context")});
  for (const json& client : plan.at("clients")) {
    const json& request = client.at(0);
    input.requests.push_back({.prompt_tokens = request.at("prompt"), .answer_tokens = request.at("max_tokens")});
  }
  input.clients = static_cast<int32_t>(input.requests.size());
  Printer printer;
  return SimulatePipelines(input, &printer);
}

}  // namespace
}  // namespace tandem::coordinator

int main() {
  try {
    const absl::Status status = tandem::coordinator::Simulate();
    if (status.ok()) return 0;
    std::fprintf(stderr, "pipeline_simulate: %s\n", std::string(status.message()).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pipeline_simulate: standard input: %s\n", error.what());
  }
  return 1;
}
