#include <latch>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "links/step_link.h"

namespace tandem::links {
namespace {

std::unique_ptr<v1::StepFrame> MakeFrame(uint64_t step) {
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_step(step);
  return frame;
}

TEST(InMemoryLinkTest, HandsFramesOverInOrder) {
  std::vector<uint64_t> steps;
  auto link = MakeInMemoryLink([&](std::unique_ptr<v1::StepFrame> frame) { steps.push_back(frame->step()); });
  for (uint64_t step = 1; step <= 5; ++step) ASSERT_TRUE(link->Send(MakeFrame(step)).ok());
  EXPECT_THAT(steps, testing::ElementsAre(1, 2, 3, 4, 5));
}

TEST(InMemoryLinkTest, CountsFramesAndBytes) {
  auto link = MakeInMemoryLink([](std::unique_ptr<v1::StepFrame>) {});
  auto frame = MakeFrame(1);
  frame->set_activations(std::string(1000, 'x'));
  const uint64_t bytes = frame->ByteSizeLong();
  ASSERT_TRUE(link->Send(std::move(frame)).ok());
  EXPECT_EQ(link->stats().frames, 1u);
  EXPECT_EQ(link->stats().bytes, bytes);
  EXPECT_EQ(link->stats().last_wire_s, 0);
}

TEST(InMemoryLinkTest, SendAfterCloseReturnsUnavailable) {
  int frames = 0;
  auto link = MakeInMemoryLink([&](std::unique_ptr<v1::StepFrame>) { ++frames; });
  link->Close();
  link->Close();
  EXPECT_EQ(link->Send(MakeFrame(1)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(frames, 0);
}

TEST(InMemoryLinkTest, CloseWaitsForTheHandler) {
  std::latch entered(1), leave(1);  // not absl::Notification, which ThreadSanitizer does not understand here
  bool left = false;
  auto link = MakeInMemoryLink([&](std::unique_ptr<v1::StepFrame>) {
    entered.count_down();
    leave.wait();
    left = true;
  });
  std::thread sender([&] { EXPECT_TRUE(link->Send(MakeFrame(1)).ok()); });
  entered.wait();
  std::thread releaser([&] { leave.count_down(); });
  link->Close();
  EXPECT_TRUE(left);
  sender.join();
  releaser.join();
}

}  // namespace
}  // namespace tandem::links
