// Flags, the config file, the address that others are told, and metrics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "proto/support/advertise.h"
#include "worker/config.h"
#include "worker/metrics.h"

namespace tandem::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorkerConfig Parse(const std::string& arguments) {
  CLI::App app;
  WorkerConfig config;
  AddWorkerFlags(app, &config);
  app.set_config("--config");
  app.parse(arguments);
  return config;
}

TEST(WorkerFlagsTest, DefaultsAreThoseOfTheConfig) {
  const WorkerConfig config = Parse("");
  EXPECT_EQ(config.listen, "127.0.0.1:0");
  EXPECT_EQ(config.memory_bytes, 0u);
  EXPECT_EQ(config.threads, 0);
  EXPECT_TRUE(config.metrics_listen.empty());
  EXPECT_FALSE(config.insecure);
  EXPECT_TRUE(config.pin_threads);
}

TEST(WorkerFlagsTest, EveryFlagArrives) {
  const WorkerConfig config = Parse(
      "--listen 0.0.0.0:7001 --advertise me:7001 --name desk --model a.gguf --model models --memory 24G "
      "--threads 3 --cpu-isa avx2 --metrics 127.0.0.1:9101 --insecure --no-pin");
  EXPECT_EQ(config.listen, "0.0.0.0:7001");
  EXPECT_EQ(config.advertise, "me:7001");
  EXPECT_EQ(config.name, "desk");
  EXPECT_THAT(config.model_paths, ElementsAre("a.gguf", "models"));
  EXPECT_EQ(config.memory_bytes, uint64_t{24} << 30);
  EXPECT_EQ(config.threads, 3);
  EXPECT_EQ(config.isa, "avx2");
  EXPECT_EQ(config.metrics_listen, "127.0.0.1:9101");
  EXPECT_TRUE(config.insecure);
  EXPECT_FALSE(config.pin_threads);
}

TEST(WorkerFlagsTest, ConfigFileHasTheFlagsNames) {
  const std::string path = ::testing::TempDir() + "worker_settings_test.toml";
  std::ofstream(path)
      << "name = \"desk\"\nthreads = 2\nmodel = [\"a.gguf\", \"b.gguf\"]\nmemory = \"2G\"\ninsecure = true\n";
  const WorkerConfig config = Parse(absl::StrCat("--threads 5 --config ", path));
  std::filesystem::remove(path);
  EXPECT_EQ(config.name, "desk");
  EXPECT_EQ(config.threads, 5);  // the command line wins
  EXPECT_THAT(config.model_paths, ElementsAre("a.gguf", "b.gguf"));
  EXPECT_EQ(config.memory_bytes, uint64_t{2} << 30);
  EXPECT_TRUE(config.insecure);
}

TEST(WorkerFlagsTest, BadValueIsAnError) {
  for (const char* arguments : {"--threads -1", "--threads x", "--memory much", "--memory -1G", "--unknown"}) {
    EXPECT_THROW(Parse(arguments), CLI::ParseError) << arguments;
  }
}

TEST(AdvertiseTest, GivenAddressIsTakenAndGetsThePort) {
  EXPECT_EQ(*proto_support::AdvertisedAddress("desk:7001", "0.0.0.0:0", 4711, "far:7000"), "desk:7001");
  EXPECT_EQ(*proto_support::AdvertisedAddress("desk:0", "0.0.0.0:0", 4711, "far:7000"), "desk:4711");
  EXPECT_EQ(proto_support::AdvertisedAddress("desk", "0.0.0.0:0", 4711, "far:7000").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AdvertiseTest, DefaultIsTheListenAddressWithTheRealPort) {
  EXPECT_EQ(*proto_support::AdvertisedAddress("", "127.0.0.1:0", 4711, "far:7000"), "127.0.0.1:4711");
  EXPECT_EQ(*proto_support::AdvertisedAddress("", "[::1]:0", 4711, "far:7000"), "[::1]:4711");
}

TEST(AdvertiseTest, WildcardBecomesTheAddressTowardsTheCoordinator) {
  EXPECT_EQ(*proto_support::AdvertisedAddress("", "0.0.0.0:0", 4711, "127.0.0.1:7000"), "127.0.0.1:4711");
}

TEST(AdvertiseTest, UnknownCoordinatorReturnsUnavailableAskingForTheFlag) {
  const absl::Status status =
      proto_support::AdvertisedAddress("", "0.0.0.0:0", 4711, "no-such-host.invalid:7000").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--advertise"));
}

// What `port` on loopback answers to GET /metrics.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof(buffer))) > 0;) answer.append(buffer, n);
  close(fd);
  return answer;
}

TEST(WorkerMetricsTest, WhatIsObservedIsServed) {
  const auto metrics = WorkerMetrics::Create("127.0.0.1:0");
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  (*metrics)->ObserveStep({.queue_s = 0.5, .compute_s = 0.25, .tokens = 7, .bytes_in = 11, .bytes_out = 13});
  (*metrics)->ObserveWire(0.125);
  (*metrics)->CountLoad(true, 17);
  (*metrics)->CountLoad(false, 19);
  (*metrics)->SetStage(3, {.weights = 100, .kv = 200, .scratch = 300}, 64);
  const std::string text = Scrape((*metrics)->port());
  for (const char* line :
       {"worker_step_seconds_sum{part=\"queue\"} 0.5\n", "worker_step_seconds_sum{part=\"compute\"} 0.25\n",
        "worker_step_seconds_count{part=\"wire\"} 1\n", "worker_tokens_total 7\n",
        "worker_link_bytes_total{direction=\"in\"} 11\n", "worker_link_bytes_total{direction=\"out\"} 13\n",
        "worker_load_bytes_total{source=\"file\"} 17\n", "worker_load_bytes_total{source=\"network\"} 19\n",
        "worker_memory_bytes{kind=\"weights\"} 100\n", "worker_memory_bytes{kind=\"kv\"} 200\n",
        "worker_memory_bytes{kind=\"scratch\"} 300\n", "worker_kv_pages 64\n", "worker_epoch 3\n"}) {
    std::string lines = text;
    lines.erase(std::remove(lines.begin(), lines.end(), '\r'), lines.end());
    EXPECT_THAT(lines, HasSubstr(line));
  }
}

TEST(WorkerMetricsTest, PortInUseReturnsUnavailableNamingIt) {
  const auto first = WorkerMetrics::Create("127.0.0.1:0");
  ASSERT_TRUE(first.ok());
  const std::string address = absl::StrCat("127.0.0.1:", (*first)->port());
  const auto second = WorkerMetrics::Create(address);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

TEST(WorkerMetricsTest, WithoutAnAddressNothingIsServed) {
  const auto metrics = WorkerMetrics::Create("");
  ASSERT_TRUE(metrics.ok());
  EXPECT_EQ((*metrics)->port(), 0);
}

}  // namespace
}  // namespace tandem::worker
