// Clients of a cluster, for run.py: each sends its requests one after the other, all clients at the same time. Reads
// from standard input
//   {"seconds": 0, "clients": [[{"ids": [1, 2], "max_tokens": 8}, ...], ...]}
// where 0 seconds are each request once, and prints at the end, since it shares the cores of those it measures, a line
// of JSON for each step of the pipeline and each answer:
//   {"step": {"planned": 1.5, "end": 1.6, "prefill": 8, "decode": 0, "compute": [0.1], "queue": [0.0], "lost": 0}}
//   {"answer": {"client": 0, "request": 0, "start": 1.4, "times": [1.6, ...], "ids": [7, ...], "error": ""}}
// with the time at which each token came. Times are seconds of the monotonic clock, which all processes of a machine
// share.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "proto/support/channel.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "tandem/v1/generate.grpc.pb.h"

namespace tandem {
namespace {

using nlohmann::json;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void PrintLine(const json& line) { std::puts(line.dump().c_str()); }

json Answer(v1::Tandem::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  json answer = {{"start", Now()}, {"times", json::array()}, {"ids", json::array()}};
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    const double now = Now();
    for (const uint32_t id : response.ids()) {
      answer["ids"].push_back(id);
      answer["times"].push_back(now);
    }
  }
  const grpc::Status status = reader->Finish();
  answer["error"] = status.ok() ? "" : status.error_message();
  return answer;
}

// All requests once, or one after the other for some seconds. An error ends it.
std::vector<json> RunClient(const std::string& server, int number, const std::vector<v1::GenerateRequest>& requests,
                            double seconds) {
  std::vector<json> answers;
  const auto stub = v1::Tandem::NewStub(proto_support::MakeChannel(server));
  const double until = Now() + seconds;
  for (size_t sent = 0; seconds > 0 ? Now() < until : sent < requests.size(); ++sent) {
    const size_t request = sent % requests.size();
    json answer = Answer(*stub, requests[request]);
    answer["client"] = number;
    answer["request"] = request;
    answers.push_back(std::move(answer));
    if (answers.back()["error"] != "") break;
  }
  return answers;
}

std::vector<v1::GenerateRequest> RequestsFrom(const json& client) {
  std::vector<v1::GenerateRequest> requests;
  for (const json& from : client) {
    v1::GenerateRequest& request = requests.emplace_back();
    for (const uint32_t id : from.at("ids")) request.mutable_ids()->add_ids(id);
    request.set_max_tokens(from.at("max_tokens"));
    request.set_ignore_end_of_turn(true);
  }
  return requests;
}

// Keeps the steps from its beginning to its end.
class StepRecorder {
 public:
  explicit StepRecorder(const std::string& server)
      : stub_(v1::Cluster::NewStub(proto_support::MakeChannel(server))),
        reader_(stub_->WatchSteps(&context_, v1::WatchStepsRequest())) {
    reader_->WaitForInitialMetadata();
    thread_ = std::thread([this] { Run(); });
  }
  ~StepRecorder() { End(); }

  void End() {
    context_.TryCancel();
    if (thread_.joinable()) thread_.join();
  }

  // After End.
  void Print() const {
    for (const v1::StepTrace& trace : traces_) {
      const double planned = static_cast<double>(trace.planned_us()) * 1e-6;
      json step = {{"planned", planned},
                   {"end", planned + static_cast<double>(trace.round_trip_us()) * 1e-6},
                   {"prefill", trace.prefill_tokens()},
                   {"decode", trace.decode_tokens()},
                   {"lost", trace.lost()}};
      for (const v1::StageTiming& stage : trace.stages()) {
        step["compute"].push_back(stage.compute_us() * 1e-6);
        step["queue"].push_back(stage.queue_us() * 1e-6);
      }
      PrintLine({{"step", step}});
    }
  }

 private:
  void Run() {
    v1::StepTrace trace;
    while (reader_->Read(&trace)) traces_.push_back(trace);
    const grpc::Status status = reader_->Finish();
    if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED) {
      std::fprintf(stderr, "pipeline_clients: steps: %s\n", status.error_message().c_str());
    }
  }

  const std::unique_ptr<v1::Cluster::Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReader<v1::StepTrace>> reader_;
  std::vector<v1::StepTrace> traces_;
  std::thread thread_;
};

void Run(const std::string& server) {
  const json plan = json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  std::vector<std::vector<v1::GenerateRequest>> requests;
  for (const json& client : plan.at("clients")) requests.push_back(RequestsFrom(client));
  const double seconds = plan.at("seconds");
  StepRecorder steps(server);
  std::vector<std::vector<json>> answers(requests.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { answers[i] = RunClient(server, static_cast<int>(i), requests[i], seconds); });
  }
  for (std::thread& client : clients) client.join();
  steps.End();
  steps.Print();
  for (const std::vector<json>& client : answers) {
    for (const json& answer : client) PrintLine({{"answer", answer}});
  }
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::proto_support::PrepareGrpc();
  CLI::App app("Clients of a cluster, as described on standard input");
  std::string server;
  app.add_option("--server", server, "Coordinator, host:port")->required();
  CLI11_PARSE(app, argc, argv);
  try {
    tandem::Run(server);
  } catch (const nlohmann::json::exception& error) {
    std::fprintf(stderr, "pipeline_clients: standard input: %s\n", error.what());
    return 1;
  }
  return 0;
}
