// CPU time of a hop, over both ends and the kernel's part of them, beside a plain protobuf stream: the same messages
// through generated gRPC classes, serialised and parsed as a whole. Over loopback; the receiving ends are processes of
// their own. Frames come one at a time with a pause, as decode steps do, or in bursts. A frame is made anew each time,
// since a stage must do so too. Then what converting activations costs.
//   build/bench/bin/links_bench [--frames 1000] [--rounds 5]
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <grpcpp/client_context.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation_format.h"
#include "links/epoch_metadata.h"
#include "links/grpc_link.h"
#include "proto/support/channel.h"
#include "tandem/v1/pipeline.grpc.pb.h"

namespace tandem {
namespace {

constexpr uint64_t kEpoch = 1;

double CpuSeconds(clockid_t clock = CLOCK_PROCESS_CPUTIME_ID) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::unique_ptr<v1::StepFrame> MakeFrame(uint64_t step, const std::string& payload) {
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(kEpoch);
  frame->set_step(step);
  v1::Slice* slice = frame->add_slices();
  slice->set_sequence(step);
  for (uint32_t i = 0; i < 4; ++i) slice->add_pages(i);
  slice->add_tokens(7);
  slice->set_output(v1::SLICE_OUTPUT_SAMPLE);
  slice->mutable_sampling()->set_seed(step);
  frame->set_activations(payload);
  frame->set_activation_type(v1::ACTIVATION_TYPE_F32);
  return frame;
}

// Between bursts the sender sleeps like this, and looks whether all has arrived.
constexpr absl::Duration kNap = absl::Microseconds(500);

// What the generated classes give without further work.
class PlainService : public v1::Pipeline::CallbackService {
 public:
  explicit PlainService(std::atomic<uint64_t>& arrived) : arrived_(arrived) {}
  grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck>* Steps(grpc::CallbackServerContext*) override {
    return new Reactor(arrived_);
  }

 private:
  class Reactor : public grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck> {
   public:
    explicit Reactor(std::atomic<uint64_t>& arrived) : arrived_(arrived) { StartRead(&frame_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      ++arrived_;
      ack_.set_step(frame_.step());
      StartWrite(&ack_);
    }
    void OnWriteDone(bool ok) override {
      if (ok) {
        frame_.Clear();
        StartRead(&frame_);
      }
    }
    void OnDone() override { delete this; }

   private:
    std::atomic<uint64_t>& arrived_;
    v1::StepFrame frame_;
    v1::StepAck ack_;
  };

  std::atomic<uint64_t>& arrived_;
};

// A process that serves one of the two, and ends when this one does.
class Receiver {
 public:
  // Call before this process uses gRPC, which does not survive a fork.
  explicit Receiver(bool plain) {
    void* shared = mmap(nullptr, sizeof(*arrived_), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) std::abort();
    arrived_ = new (shared) std::atomic<uint64_t>(0);
    int ready[2], alive[2];
    if (pipe(ready) != 0 || pipe(alive) != 0) std::abort();
    child_ = fork();
    if (child_ == 0) {
      close(alive[1]);
      Serve(plain, ready[1], alive[0]);
      _exit(0);
    }
    close(ready[1]);
    close(alive[0]);
    alive_ = alive[1];
    if (child_ < 0 || read(ready[0], &port_, sizeof(port_)) != sizeof(port_)) std::abort();
    close(ready[0]);
    clock_getcpuclockid(child_, &clock_);
  }
  ~Receiver() {
    close(alive_);
    waitpid(child_, nullptr, 0);
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  // Frames, over all streams.
  uint64_t arrived() const { return *arrived_; }
  // Of both ends.
  double CpuOfBoth() const { return CpuSeconds() + CpuSeconds(clock_); }

 private:
  void Serve(bool plain, int ready, int alive) {
    proto_support::PrepareGrpc();
    PlainService plain_service(*arrived_);
    const std::unique_ptr<links::PipelineService> service = links::MakePipelineService();
    service->Serve(
        kEpoch, [this](auto) { ++*arrived_; }, [](absl::Status) {});
    grpc::ServerBuilder builder;
    proto_support::ConfigureServer(builder);
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(plain ? &plain_service : service->service());
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (write(ready, &port, sizeof(port)) != sizeof(port)) std::abort();
    char byte = 0;
    while (read(alive, &byte, 1) > 0) {
    }
    service->StopServing();
    server->Shutdown(std::chrono::system_clock::now());
  }

  std::atomic<uint64_t>* arrived_ = nullptr;  // shared with the child
  pid_t child_ = -1;
  int alive_ = -1, port_ = 0;
  clockid_t clock_ = 0;
};

// A hop, either way.
class Hop {
 public:
  virtual ~Hop() = default;
  virtual absl::Status Send(std::unique_ptr<v1::StepFrame> frame) = 0;
};

class TandemHop : public Hop {
 public:
  static absl::StatusOr<std::unique_ptr<Hop>> Create(const Receiver& receiver) {
    auto hop = std::make_unique<TandemHop>();
    links::GrpcLinkOptions options;
    options.address = receiver.address();
    options.epoch = kEpoch;
    // The stream before this one may be about to end.
    for (int i = 0; i < 100; ++i) {
      absl::StatusOr<std::unique_ptr<links::StepLink>> link = links::DialGrpcLink(options);
      if (link.ok()) {
        hop->link_ = *std::move(link);
        return hop;
      }
      if (link.status().code() != absl::StatusCode::kAlreadyExists) return link.status();
      absl::SleepFor(absl::Milliseconds(20));
    }
    return absl::UnavailableError("the receiver does not let go of its stream");
  }
  ~TandemHop() override {
    if (link_ != nullptr) link_->Close();
  }
  absl::Status Send(std::unique_ptr<v1::StepFrame> frame) override { return link_->Send(std::move(frame)); }

 private:
  std::unique_ptr<links::StepLink> link_;
};

class PlainHop : public Hop, public grpc::ClientBidiReactor<v1::StepFrame, v1::StepAck> {
 public:
  explicit PlainHop(const Receiver& receiver)
      : stub_(v1::Pipeline::NewStub(proto_support::MakeChannel(receiver.address()))) {
    stub_->async()->Steps(&context_, this);
    AddHold();
    StartRead(&ack_);
    StartCall();
  }
  ~PlainHop() override {
    StartWritesDone();
    RemoveHold();
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&done_));
  }
  absl::Status Send(std::unique_ptr<v1::StepFrame> frame) override {
    const v1::StepFrame* next = nullptr;
    {
      absl::MutexLock lock(&mu_);
      queue_.push_back(std::move(frame));
      if (queue_.size() == 1) next = queue_.front().get();
    }
    if (next != nullptr) StartWrite(next);
    return absl::OkStatus();
  }
  void OnReadDone(bool ok) override {
    if (ok) StartRead(&ack_);
  }
  void OnWriteDone(bool) override {
    const v1::StepFrame* next = nullptr;
    {
      absl::MutexLock lock(&mu_);
      queue_.pop_front();
      if (!queue_.empty()) next = queue_.front().get();
    }
    if (next != nullptr) StartWrite(next);
  }
  void OnDone(const grpc::Status&) override {
    absl::MutexLock lock(&mu_);
    done_ = true;
  }

 private:
  const std::unique_ptr<v1::Pipeline::Stub> stub_;
  grpc::ClientContext context_;
  v1::StepAck ack_;
  absl::Mutex mu_;
  std::deque<std::unique_ptr<v1::StepFrame>> queue_ ABSL_GUARDED_BY(mu_);
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

// CPU seconds of a nap.
double MeasureNap() {
  constexpr int kNaps = 500;
  const double begin = CpuSeconds();
  for (int i = 0; i < kNaps; ++i) absl::SleepFor(kNap);
  return (CpuSeconds() - begin) / kNaps;
}

// CPU microseconds of a frame: bursts of `burst` frames, and naps until they have arrived, at least one.
absl::StatusOr<double> Measure(const Receiver& receiver, Hop& hop, uint64_t* step, const std::string& payload,
                               int burst, int frames) {
  const double nap_s = MeasureNap(), begin = receiver.CpuOfBoth();
  const uint64_t arrived = receiver.arrived();
  int sent = 0, naps = 0;
  while (sent < frames) {
    for (int i = 0; i < burst; ++i, ++sent) TANDEM_RETURN_IF_ERROR(hop.Send(MakeFrame(++*step, payload)));
    do {
      absl::SleepFor(kNap);
      ++naps;
    } while (receiver.arrived() - arrived < static_cast<uint64_t>(sent));
  }
  return (receiver.CpuOfBoth() - begin - naps * nap_s) * 1e6 / sent;
}

// Medians over rounds in which the two take turns.
absl::Status Compare(const std::array<Receiver, 2>& receivers, size_t bytes, int burst, int frames, int rounds) {
  const std::string payload(bytes, 'x');
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<Hop> ours, TandemHop::Create(receivers[0]));
  PlainHop plain(receivers[1]);
  const std::array<Hop*, 2> hops = {ours.get(), &plain};
  std::array<uint64_t, 2> steps = {};
  std::array<std::vector<double>, 2> cpu_us;
  for (int round = -1; round < rounds; ++round) {
    for (size_t i = 0; i < 2; ++i) {
      TANDEM_ASSIGN_OR_RETURN(const double us, Measure(receivers[i], *hops[i], &steps[i], payload, burst, frames));
      if (round >= 0) cpu_us[i].push_back(us);  // the first one warms up
    }
  }
  for (std::vector<double>& values : cpu_us) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  }
  const double ours_us = cpu_us[0][rounds / 2], plain_us = cpu_us[1][rounds / 2];
  std::printf("%9zu %9d %12.1f %12.1f %8.2f\n", bytes, burst, ours_us, plain_us, ours_us / plain_us);
  std::fflush(stdout);
  return absl::OkStatus();
}

void MeasureConversions() {
  constexpr size_t kCount = 512 * 4096;
  std::vector<float> values(kCount), back(kCount);
  for (size_t i = 0; i < kCount; ++i)
    values[i] = static_cast<float>(static_cast<int>(i * 2654435761u >> 8) % 1000) / 99;
  std::printf("\n%-6s %14s %14s\n", "type", "pack ns/value", "unpack ns/value");
  for (const engine::TensorType type : engine::ActivationTypes()) {
    std::vector<std::byte> bytes(engine::ActivationBytes(type, kCount));
    engine::PackActivations(type, values, bytes.data());
    const double begin = CpuSeconds();
    engine::PackActivations(type, values, bytes.data());
    const double packed = CpuSeconds();
    engine::UnpackActivations(type, bytes.data(), back);
    const double unpacked = CpuSeconds();
    std::printf("%-6s %14.2f %14.2f\n", engine::ActivationTypeName(type).c_str(), (packed - begin) * 1e9 / kCount,
                (unpacked - packed) * 1e9 / kCount);
  }
}

absl::Status Run(const std::array<Receiver, 2>& receivers, int frames, int rounds, size_t only) {
  std::printf("%9s %9s %12s %12s %8s\n", "bytes", "burst", "CPU us", "plain CPU us", "ratio");
  for (const size_t bytes : {size_t{64}, size_t{16} << 10, size_t{4} << 20}) {
    if (only != 0 && bytes != only) continue;
    const bool large = bytes > (1 << 20);
    for (const int burst : {1, large ? 4 : 16}) {
      TANDEM_RETURN_IF_ERROR(Compare(receivers, bytes, burst, large ? std::max(4, frames / 20) : frames, rounds));
    }
  }
  MeasureConversions();
  return absl::OkStatus();
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  CLI::App app("What a frame costs on its way over a hop");
  int frames = 1000, rounds = 5;
  size_t only = 0;
  app.add_option("--frames", frames, "Frames of a round; a twentieth of them with 4 MiB")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--rounds", rounds, "Rounds, of which the median counts")->check(CLI::Range(1, 100));
  app.add_option("--bytes", only, "Of the activations: 64, 16384 or 4194304; default: all");
  CLI11_PARSE(app, argc, argv);
  const std::array<tandem::Receiver, 2> receivers = {tandem::Receiver(/*plain=*/false),
                                                     tandem::Receiver(/*plain=*/true)};
  tandem::proto_support::PrepareGrpc();
  const absl::Status status = tandem::Run(receivers, frames, rounds, only);
  if (!status.ok()) std::fprintf(stderr, "links_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
