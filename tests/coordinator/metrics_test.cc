#include "coordinator/metrics.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::coordinator {
namespace {

using ::testing::HasSubstr;

// The body of http://127.0.0.1:port/metrics.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(fd, buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<size_t>(got));
  close(fd);
  return text;
}

TEST(CoordinatorMetricsTest, TextHasEveryFamily) {
  CoordinatorMetrics metrics;
  const absl::Status served = metrics.Serve("127.0.0.1:0", [] {
    DispatcherStats stats;
    stats.epoch = 4;
    stats.running = 2;
    stats.waiting = 3;
    stats.kv_pages_used = 10;
    stats.kv_pages_idle = 7;
    stats.kv_pages_total = 128;
    stats.bytes_in = 77;
    stats.bytes_out = 88;
    return stats;
  });
  ASSERT_TRUE(served.ok()) << served;
  metrics.OnFinished(
      absl::StatusCode::kOk,
      {.prompt_tokens = 100, .generated_tokens = 20, .cached_tokens = 64, .guessed_tokens = 9, .right_guesses = 5});
  metrics.OnFinished(absl::StatusCode::kCancelled, {.prompt_tokens = 1, .generated_tokens = 2});
  metrics.OnFirstToken(0.02);
  StepReport report;
  report.stages = {{0.001, 0.010, 0.004}, {0.002, 0.020, 0.005}};
  report.first_wire_s = 0.003;
  report.round_trip_s = 0.045;
  metrics.OnStep(report);

  const std::string text = Scrape(metrics.port());
  EXPECT_THAT(text, HasSubstr("coordinator_requests_total{outcome=\"ok\"} 1"));
  EXPECT_THAT(text, HasSubstr("coordinator_requests_total{outcome=\"cancelled\"} 1"));
  EXPECT_THAT(text, HasSubstr("coordinator_tokens_total{direction=\"in\"} 101"));
  EXPECT_THAT(text, HasSubstr("coordinator_tokens_total{direction=\"out\"} 22"));
  EXPECT_THAT(text, HasSubstr("coordinator_cached_tokens_total 64"));
  EXPECT_THAT(text, HasSubstr("coordinator_guessed_tokens_total{outcome=\"right\"} 5"));
  EXPECT_THAT(text, HasSubstr("coordinator_guessed_tokens_total{outcome=\"wrong\"} 4"));
  EXPECT_THAT(text, HasSubstr("coordinator_time_to_first_token_seconds_sum 0.02"));
  EXPECT_THAT(text, HasSubstr("coordinator_step_seconds_sum{part=\"compute\",pipeline=\"0\",stage=\"1\"} 0.02"));
  EXPECT_THAT(text, HasSubstr("coordinator_step_seconds_sum{part=\"queue\",pipeline=\"0\",stage=\"0\"} 0.001"));
  EXPECT_THAT(text, HasSubstr("coordinator_step_seconds_sum{part=\"wire\",pipeline=\"0\",stage=\"0\"} 0.003"));
  EXPECT_THAT(text, HasSubstr("coordinator_step_seconds_sum{part=\"wire\",pipeline=\"0\",stage=\"1\"} 0.004"));
  EXPECT_THAT(text, HasSubstr("coordinator_step_seconds_sum{part=\"wire\",pipeline=\"0\",stage=\"return\"} 0.005"));
  EXPECT_THAT(text, HasSubstr("coordinator_step_seconds_sum{part=\"round_trip\",pipeline=\"0\",stage=\"all\"} 0.045"));
  EXPECT_THAT(text, HasSubstr("coordinator_kv_pages{state=\"used\"} 10"));
  EXPECT_THAT(text, HasSubstr("coordinator_kv_pages{state=\"idle\"} 7"));
  EXPECT_THAT(text, HasSubstr("coordinator_kv_pages{state=\"total\"} 128"));
  EXPECT_THAT(text, HasSubstr("coordinator_sequences{state=\"running\"} 2"));
  EXPECT_THAT(text, HasSubstr("coordinator_sequences{state=\"waiting\"} 3"));
  EXPECT_THAT(text, HasSubstr("coordinator_link_bytes_total{direction=\"in\"} 77"));
  EXPECT_THAT(text, HasSubstr("coordinator_link_bytes_total{direction=\"out\"} 88"));
  EXPECT_THAT(text, HasSubstr("coordinator_epoch 4"));
}

TEST(CoordinatorMetricsTest, PortInUseIsNamed) {
  const auto stats = [] { return DispatcherStats(); };
  CoordinatorMetrics first, second;
  ASSERT_TRUE(first.Serve("127.0.0.1:0", stats).ok());
  const std::string address = absl::StrCat("127.0.0.1:", first.port());
  const absl::Status status = second.Serve(address, stats);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address));
}

}  // namespace
}  // namespace tandem::coordinator
