// `tandem bench` against a server that is not ours: it has Generate and nothing else, and does as its prompts say.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "cli/bench/load_client.h"
#include "cli/bench/step_watch.h"
#include "proto/support/channel.h"

namespace tandem::cli {
namespace {

using ::testing::HasSubstr;

// Prompts are texts: "ok", "fail", "babble" (a token too many), "hang" (until cancelled), "pairs" (two tokens a
// message).
class ForeignServer : public v1::Tandem::Service {
 public:
  ForeignServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ForeignServer() override { server_->Shutdown(); }

  std::shared_ptr<grpc::Channel> Channel() { return proto_support::MakeChannel(absl::StrCat("127.0.0.1:", port_)); }
  int most_at_once() const { return most_at_once_; }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const int now = ++at_once_;
    for (int most = most_at_once_; most < now && !most_at_once_.compare_exchange_weak(most, now);) {
    }
    const grpc::Status status = Answer(context, *request, writer);
    --at_once_;
    return status;
  }

 private:
  grpc::Status Answer(grpc::ServerContext* context, const v1::GenerateRequest& request,
                      grpc::ServerWriter<v1::GenerateResponse>* writer) {
    if (request.prompt() == "fail") return {grpc::RESOURCE_EXHAUSTED, "no room"};
    uint32_t left = request.max_tokens() + (request.prompt() == "babble" ? 1 : 0);
    const uint32_t at_once = request.prompt() == "pairs" ? 2 : 1;
    writer->Write(v1::GenerateResponse());  // no token yet
    while (left > 0) {
      v1::GenerateResponse response;
      for (uint32_t i = 0; i < std::min(left, at_once); ++i) response.add_ids(7);
      left -= static_cast<uint32_t>(response.ids_size());
      if (left == 0) {
        response.mutable_usage()->set_prompt_tokens(11);
        response.mutable_usage()->set_cached_tokens(5);
        response.mutable_usage()->set_guessed_tokens(3);
        response.mutable_usage()->set_right_guesses(2);
      }
      writer->Write(response);
      while (request.prompt() == "hang" && !context->IsCancelled()) usleep(1000);
    }
    return grpc::Status::OK;
  }

  std::atomic<int> at_once_ = 0, most_at_once_ = 0;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// One request of `tokens` tokens for each of `prompts`, all due at once.
WorkloadOptions Ask(const std::vector<std::string>& prompts, uint32_t tokens) {
  WorkloadOptions options;
  for (const std::string& prompt : prompts) options.trace.push_back({.max_tokens = tokens, .prompt = prompt});
  return options;
}

class LoadClientTest : public ::testing::Test {
 protected:
  std::vector<RequestRecord> Run(WorkloadOptions options, const LoadLimits& limits = {}) {
    Workload workload(std::move(options));
    LoadClient client(server_.Channel());
    return client.Run(workload, limits, interrupt_, [this](const LoadProgress& progress) { OnProgress(progress); });
  }
  void OnProgress(const LoadProgress& progress) {
    last_ = progress;
    if (interrupt_at_tokens_ > 0 && progress.tokens >= interrupt_at_tokens_) {
      interrupt_at_tokens_ = 0;
      kill(getpid(), SIGINT);
    }
  }

  Interrupt interrupt_;  // first: before any thread
  ForeignServer server_;
  LoadProgress last_;
  uint64_t interrupt_at_tokens_ = 0;
};

TEST_F(LoadClientTest, RecordsTokensTimesAndUsage) {
  const std::vector<RequestRecord> records = Run(Ask({"ok", "pairs"}, 5));
  ASSERT_EQ(records.size(), 2u);
  for (const RequestRecord& record : records) {
    EXPECT_TRUE(record.status.ok()) << record.status;
    EXPECT_EQ(record.answer_tokens, 5u);
    EXPECT_EQ(record.wanted_tokens, 5u);
    EXPECT_EQ(record.prompt_tokens, 11u);
    EXPECT_EQ(record.cached_tokens, 5u);
    EXPECT_EQ(record.guessed_tokens, 3u);
    EXPECT_EQ(record.right_guesses, 2u);
    EXPECT_EQ(record.gaps_s.size(), 4u);
    double end_s = record.first_token_s;
    for (double gap_s : record.gaps_s) {
      EXPECT_GE(gap_s, 0);
      end_s += gap_s;
    }
    EXPECT_GT(record.first_token_s, record.sent_s);
    EXPECT_GE(record.sent_s, record.due_s);
    EXPECT_LE(end_s, record.end_s + 1e-9);
  }
  EXPECT_EQ(records[1].gaps_s[0], 0);  // came with the first
  EXPECT_EQ(records[1].gaps_s[1], records[1].gaps_s[2]);
  EXPECT_EQ(last_.sent, 2u);
  EXPECT_EQ(last_.ended, 2u);
  EXPECT_EQ(last_.tokens, 10u);
}

TEST_F(LoadClientTest, AClosedLoopHasSoManyAtOnceAndEndsWithTheCount) {
  WorkloadOptions options;
  options.source.ids = {3};
  options.answer_tokens = *LengthDistribution::Parse("3");
  const std::vector<RequestRecord> records = Run(options, {.clients = 3, .requests = 20});
  EXPECT_EQ(records.size(), 20u);
  for (const RequestRecord& record : records) EXPECT_TRUE(record.status.ok()) << record.status;
  EXPECT_LE(server_.most_at_once(), 3);
}

TEST_F(LoadClientTest, NoneIsSentAfterTheDuration) {
  WorkloadOptions options = Ask({"ok", "ok", "ok"}, 1);
  options.trace[2].at_s = 1e6;
  EXPECT_EQ(Run(options, {.duration_s = 0.5}).size(), 2u);
}

TEST_F(LoadClientTest, FailuresKeepTheirStatusAndTooManyTokensAreOne) {
  const std::vector<RequestRecord> records = Run(Ask({"fail", "ok", "babble"}, 4));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_TRUE(absl::IsResourceExhausted(records[0].status)) << records[0].status;
  EXPECT_TRUE(records[1].status.ok());
  EXPECT_TRUE(absl::IsInternal(records[2].status)) << records[2].status;
  EXPECT_THAT(std::string(records[2].status.message()), HasSubstr("more than the 4 tokens"));
  EXPECT_EQ(last_.failed, 2u);
}

TEST_F(LoadClientTest, ATimeoutEndsARequest) {
  const std::vector<RequestRecord> records = Run(Ask({"hang"}, 4), {.request_timeout_s = 0.2});
  ASSERT_EQ(records.size(), 1u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(records[0].status)) << records[0].status;
  EXPECT_FALSE(records[0].cut_off);
}

TEST_F(LoadClientTest, CtrlCCutsOffWhatIsUnderWayAndKeepsTheRest) {
  WorkloadOptions options = Ask({"ok", "hang", "hang", "ok"}, 4);
  options.trace[3].at_s = 1e6;  // never sent
  interrupt_at_tokens_ = 4 + 1 + 1;
  const std::vector<RequestRecord> records = Run(options);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_TRUE(records[0].status.ok());
  for (int i : {1, 2}) {
    EXPECT_TRUE(records[i].cut_off);
    EXPECT_EQ(records[i].answer_tokens, 1u);
  }
  EXPECT_EQ(last_.failed, 0u);
}

TEST_F(LoadClientTest, NoServerIsUnavailable) {
  std::shared_ptr<grpc::Channel> nowhere;
  {
    ForeignServer gone;
    nowhere = gone.Channel();
  }
  Workload workload(Ask({"ok"}, 1));
  LoadClient client(nowhere);
  const auto records = client.Run(workload, {}, interrupt_, [](const LoadProgress&) {});
  ASSERT_EQ(records.size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(records[0].status)) << records[0].status;
}

TEST_F(LoadClientTest, AServerWithoutClusterServiceShowsNoSteps) {
  StepWatch watch(server_.Channel());
  watch.Finish(/*prefill_tokens=*/0, /*decode_tokens=*/1000);
  EXPECT_EQ(watch.timeline().num_steps(), 0u);
  EXPECT_THAT(watch.why(), HasSubstr("Cluster.WatchSteps"));
}

}  // namespace
}  // namespace tandem::cli
