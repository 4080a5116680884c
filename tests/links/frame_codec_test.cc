#include "links/frame_codec.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::links {
namespace {

using ::testing::HasSubstr;

v1::StepFrame MakeFrame(size_t activation_bytes) {
  v1::StepFrame frame;
  frame.set_epoch(uint64_t{1} << 40);
  frame.set_step(300);
  for (uint32_t i = 0; i < 3; ++i) {
    v1::Slice* slice = frame.add_slices();
    slice->set_sequence(i);
    for (uint32_t token = 0; token < 50; ++token) slice->add_tokens(token * 1000);
    slice->mutable_sampling()->set_seed(~uint64_t{0});
  }
  for (size_t i = 0; i < activation_bytes; ++i) frame.mutable_activations()->push_back(static_cast<char>(i * 37));
  frame.set_activation_type(v1::ACTIVATION_TYPE_F16);
  frame.add_timings()->set_compute_us(7);
  return frame;
}

// As our sending end writes it.
std::string Serialize(v1::StepFrame frame) {
  const std::string activations = std::move(*frame.mutable_activations());
  frame.clear_activations();
  return SerializeHead(frame, activations.size()) + activations;
}

// Cut into pieces of 1 to `most` bytes, empty ones among them.
std::vector<absl::string_view> Cut(absl::string_view bytes, uint32_t most, std::mt19937& random) {
  std::vector<absl::string_view> pieces;
  while (!bytes.empty()) {
    if (random() % 4 == 0) pieces.emplace_back();
    pieces.push_back(bytes.substr(0, 1 + random() % most));
    bytes.remove_prefix(pieces.back().size());
  }
  return pieces;
}

absl::StatusOr<v1::StepFrame> Receive(absl::string_view bytes) {
  const absl::string_view pieces[] = {bytes};
  absl::StatusOr<ReceivedFrame> received = ReceivedFrame::Scan(pieces);
  if (!received.ok()) return received.status();
  absl::StatusOr<std::unique_ptr<v1::StepFrame>> frame = (*std::move(received)).Take();
  if (!frame.ok()) return frame.status();
  return **frame;
}

TEST(FrameCodecTest, WhatWeSendIsTheMessage) {
  for (const size_t bytes : {0, 1, 127, 128, 100000}) {
    const v1::StepFrame frame = MakeFrame(bytes);
    v1::StepFrame read;
    ASSERT_TRUE(read.ParseFromString(Serialize(frame)));
    EXPECT_EQ(read.SerializeAsString(), frame.SerializeAsString()) << bytes;
  }
}

TEST(FrameCodecTest, MessagesOfBothKindsAreReadHoweverTheyAreCut) {
  std::mt19937 random(1);
  for (const size_t size : {0, 1, 127, 128, 100000}) {
    const v1::StepFrame frame = MakeFrame(size);
    for (const std::string& bytes : {Serialize(frame), frame.SerializeAsString()}) {
      for (const uint32_t most : {1u, 3u, 1000u, 1000000u}) {
        const std::vector<absl::string_view> pieces = Cut(bytes, most, random);
        absl::StatusOr<ReceivedFrame> received = ReceivedFrame::Scan(pieces);
        ASSERT_TRUE(received.ok()) << received.status();
        EXPECT_EQ(received->epoch(), frame.epoch());
        EXPECT_EQ(received->step(), frame.step());
        EXPECT_EQ(received->activation_bytes(), size);
        const auto read = (*std::move(received)).Take();
        ASSERT_TRUE(read.ok()) << read.status();
        EXPECT_EQ((*read)->SerializeAsString(), frame.SerializeAsString());
      }
    }
  }
}

TEST(FrameCodecTest, EmptyMessageIsAnEmptyFrame) {
  const auto frame = Receive("");
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_EQ(frame->step(), 0u);
}

TEST(FrameCodecTest, UnknownFieldsArePassedOver) {
  std::string bytes = MakeFrame(10).SerializeAsString();
  bytes += std::string("\xf8\x01\x05\xf9\x01zzzzzzzz\xfd\x01zzzz\xfa\x01\x02zz", 24);  // field 31, each wire type
  const auto frame = Receive(bytes);
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_EQ(frame->activations().size(), 10u);
}

TEST(FrameCodecTest, MalformedMessageIsNamed) {
  const std::string two = MakeFrame(1).SerializeAsString() + "\x22\x01x";
  const struct {
    std::string bytes;
    const char* message;
  } cases[] = {{"\x80", "within a tag"},
               {"\x08", "within a number"},
               {std::string("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12), "within a number"},
               {"\x09zzzz", "within a number"},
               {"\x22", "within a length"},
               {"\x22\x05zzzz", "field 4 has 5 bytes, 4 are left"},
               {"\x22\xff\xff\xff\xff\x0f", "field 4 has 4294967295 bytes, 0 are left"},
               {std::string("\x22\x81\x80\x80\x80\x80\x00x", 8), "within a length"},
               {"\x0b", "wire type 3"},
               {"\x1a\x02\x0a\x05", "not what its type says"},
               {two, "activations twice"}};
  for (const auto& c : cases) {
    const absl::Status status = Receive(c.bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace tandem::links
