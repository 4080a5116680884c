#include "worker/shard_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "engine/model/model_layout.h"
#include "proto/support/channel.h"
#include "tests/support/tiny_model.h"
#include "tests/worker/fake_coordinator.h"

namespace tandem::worker {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

class ShardLoaderTest : public ::testing::Test {
 protected:
  ShardLoaderTest() {
    std::string pattern = ::testing::TempDir() + "shard_loader_XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    bytes_ = tandem::testing::MakeTinyModel({.layers = 3}).Serialize();
    coordinator_.SetModel(bytes_);
    options_.memory_bytes = 1 << 30;
    options_.threads = 1;
    options_.pin_threads = false;
    stub_ = v1::Cluster::NewStub(proto_support::MakeChannel(coordinator_.address()));
  }
  ~ShardLoaderTest() override { std::filesystem::remove_all(folder_); }

  std::string Save(const std::string& name, const std::vector<std::byte>& bytes) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return path;
  }

  v1::Place Place(uint32_t first_layer, uint32_t end_layer) {
    v1::Place place;
    place.set_epoch(1);
    *place.mutable_model() = coordinator_.model();
    place.set_first_layer(first_layer);
    place.set_end_layer(end_layer);
    place.mutable_kv()->set_type(v1::KV_TYPE_F32);
    place.mutable_kv()->set_page_tokens(16);
    place.mutable_kv()->set_num_pages(4);
    place.set_max_step_tokens(32);
    return place;
  }

  absl::StatusOr<LoadedShard> Load(const v1::Place& place) {
    return LoadShard(
        options_, place, *stub_,
        [this](uint64_t done, uint64_t total) {
          EXPECT_GE(done, done_);
          done_ = done;
          total_ = total;
        },
        cancel_);
  }
  absl::Status LoadError(const v1::Place& place) { return Load(place).status(); }

  // The stage's answer to one step: what the source of its weights must not change.
  static std::vector<float> Answer(engine::Stage& stage, const engine::ModelSpec& spec) {
    const std::vector<int32_t> tokens = {1, 20, 30};
    const std::vector<uint32_t> pages = {0};
    const std::vector<float> hidden(tokens.size() * spec.hidden, 0.25f);
    engine::Step step;
    step.slices.push_back({.position = 0, .tokens = tokens, .pages = pages, .output = engine::SliceOutput::kLogits});
    if (!stage.is_first()) step.hidden = hidden;
    engine::StepResult result;
    const absl::Status status = stage.Run(step, &result);
    EXPECT_TRUE(status.ok()) << status;
    return stage.is_last() ? result.results.at(0).logits : result.hidden;
  }

  std::string folder_;
  std::vector<std::byte> bytes_;
  tandem::testing::FakeCoordinator coordinator_;
  ShardLoaderOptions options_;
  std::unique_ptr<v1::Cluster::Stub> stub_;
  LoadCancel cancel_;
  uint64_t done_ = 0, total_ = 0;
};

TEST_F(ShardLoaderTest, EveryRangeLoadsOverTheNetworkAsFromTheFile) {
  const std::string path = Save("model.gguf", bytes_);
  for (const bool tied : {false, true}) {
    coordinator_.SetModel(tandem::testing::MakeTinyModel({.layers = 3, .tied_head = tied}).Serialize());
    for (const auto& [first, end] : {std::pair{0, 3}, {0, 1}, {1, 2}, {2, 3}}) {
      SCOPED_TRACE(absl::StrCat(first, "-", end, tied ? " tied" : ""));
      const v1::Place place = Place(first, end);
      auto remote = Load(place);
      ASSERT_TRUE(remote.ok()) << remote.status();
      EXPECT_FALSE(remote->from_local_file);
      EXPECT_EQ(done_, total_);
      EXPECT_GT(total_, 0u);
      done_ = 0;
      Save("model.gguf", tandem::testing::MakeTinyModel({.layers = 3, .tied_head = tied}).Serialize());
      options_.model_paths = {path};
      auto local = Load(place);
      ASSERT_TRUE(local.ok()) << local.status();
      EXPECT_TRUE(local->from_local_file);
      EXPECT_EQ(done_, total_);
      done_ = 0;
      options_.model_paths.clear();
      EXPECT_EQ(Answer(*remote->stage, remote->spec), Answer(*local->stage, local->spec));
      EXPECT_EQ(remote->stage->memory().total(), local->stage->memory().total());
    }
  }
}

TEST_F(ShardLoaderTest, OnlyTheStagesTensorsAreFetched) {
  ASSERT_TRUE(Load(Place(1, 2)).ok());
  const auto file = engine::GgufFile::Parse(bytes_);
  const engine::ModelSpec spec = *engine::ReadModelSpec(**file);
  const std::vector<std::string> names = engine::StageTensorNames(spec, **file, 1, 2);
  EXPECT_THAT(coordinator_.fetched(), ElementsAreArray(names));
  for (const std::string& name : names) EXPECT_THAT(name, HasSubstr("blk.1."));
}

TEST_F(ShardLoaderTest, LocalFileIsFoundInAFolderAmongOthers) {
  Save("a-other.gguf", tandem::testing::MakeTinyModel({.layers = 3, .seed = 2}).Serialize());
  Save("b-broken.gguf", std::vector<std::byte>(100));
  Save("c-match.gguf", bytes_);
  options_.model_paths = {folder_ + "/missing.gguf", folder_};
  const auto shard = Load(Place(0, 3));
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_TRUE(shard->from_local_file);
  EXPECT_TRUE(coordinator_.fetched().empty());
}

TEST_F(ShardLoaderTest, AModelInPartsLoadsOverTheNetworkAndFromAFolder) {
  const tandem::testing::TinyModel model = tandem::testing::MakeTinyModel({.layers = 3});
  std::filesystem::create_directory(folder_ + "/parts");
  int part = 0;
  for (const std::vector<std::byte>& bytes : model.SerializeParts(4)) {
    Save(absl::StrCat("parts/model-0000", ++part, "-of-00004.gguf"), bytes);
  }
  auto file = engine::GgufFile::Open(folder_ + "/parts/model-00002-of-00004.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  coordinator_.SetModel(*std::move(file));
  for (const auto& [first, end] : {std::pair{0, 3}, {1, 2}}) {
    auto remote = Load(Place(first, end));
    ASSERT_TRUE(remote.ok()) << remote.status();
    EXPECT_FALSE(remote->from_local_file);
    options_.model_paths = {folder_ + "/parts"};
    done_ = 0;
    auto local = Load(Place(first, end));
    ASSERT_TRUE(local.ok()) << local.status();
    EXPECT_TRUE(local->from_local_file);
    options_.model_paths = {Save("whole.gguf", bytes_)};
    coordinator_.SetModel(bytes_);
    done_ = 0;
    auto whole = Load(Place(first, end));
    ASSERT_TRUE(whole.ok()) << whole.status();
    const std::vector<float> expected = Answer(*whole->stage, whole->spec);
    EXPECT_EQ(Answer(*remote->stage, remote->spec), expected);
    EXPECT_EQ(Answer(*local->stage, local->spec), expected);
    options_.model_paths.clear();
    done_ = 0;
    coordinator_.SetModel(*engine::GgufFile::Open(folder_ + "/parts/model-00001-of-00004.gguf"));
  }
}

TEST_F(ShardLoaderTest, LocalFileOfAnotherModelIsNotTaken) {
  options_.model_paths = {Save("other.gguf", tandem::testing::MakeTinyModel({.layers = 3, .seed = 2}).Serialize())};
  const auto shard = Load(Place(0, 1));
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_FALSE(shard->from_local_file);
}

TEST_F(ShardLoaderTest, MemoryThatDoesNotFitIsRefusedBeforeLoadingWithTheNumbers) {
  options_.memory_bytes = 100000;
  const absl::Status status = LoadError(Place(0, 3));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("weights"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("this worker may use 0.1 MB"));
  EXPECT_TRUE(coordinator_.fetched().empty());
}

TEST_F(ShardLoaderTest, BadPlaceReturnsInvalidArgumentNamingTheField) {
  v1::Place place = Place(0, 3);
  place.set_first_layer(0xffffffffu);
  EXPECT_THAT(std::string(LoadError(place).message()), HasSubstr("first_layer is 4294967295"));
  place = Place(0, 4);
  EXPECT_EQ(LoadError(place).code(), absl::StatusCode::kInvalidArgument);
  place = Place(0, 3);
  place.mutable_kv()->clear_type();
  EXPECT_THAT(std::string(LoadError(place).message()), HasSubstr("kv type"));
  place = Place(0, 3);
  place.mutable_kv()->set_page_tokens(7);
  EXPECT_EQ(LoadError(place).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ShardLoaderTest, HeaderLargerThanAllowedReturnsInvalidArgument) {
  v1::Place place = Place(0, 3);
  place.mutable_model()->set_header_bytes(uint64_t{1} << 40);
  place.mutable_model()->set_file_bytes(uint64_t{1} << 41);
  EXPECT_EQ(LoadError(place).code(), absl::StatusCode::kInvalidArgument);
  place.mutable_model()->set_header_bytes(1000);
  place.mutable_model()->set_file_bytes(999);
  EXPECT_EQ(LoadError(place).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ShardLoaderTest, HeaderOfAnotherLengthReturnsDataLoss) {
  v1::Place place = Place(0, 3);
  place.mutable_model()->set_header_bytes(place.model().header_bytes() - 1);
  EXPECT_THAT(LoadError(place).ToString(), HasSubstr("DATA_LOSS: the model's header came with more"));
  place.mutable_model()->set_header_bytes(place.model().header_bytes() + 2);
  EXPECT_THAT(LoadError(place).ToString(), HasSubstr("DATA_LOSS: the model's header came with fewer"));
}

TEST_F(ShardLoaderTest, HostileHeaderReturnsInvalidArgument) {
  coordinator_.spoil_header = [first = true](v1::FileChunk& chunk) mutable {
    if (std::exchange(first, false)) chunk.mutable_data()->replace(8, 8, 8, '\xff');  // the number of tensors
  };
  const absl::Status status = LoadError(Place(0, 3));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor count"));
}

TEST_F(ShardLoaderTest, DamagedTensorReturnsDataLossNamingIt) {
  coordinator_.spoil_tensor = [](v1::TensorChunk& chunk) {
    if (chunk.tensor() == 1) (*chunk.mutable_data())[0] ^= 1;
    return true;
  };
  const absl::Status status = LoadError(Place(0, 3));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor blk.0.attn_norm.weight: checksum"));
}

TEST_F(ShardLoaderTest, WrongChunksReturnDataLoss) {
  struct Case {
    const char* message;
    std::function<bool(v1::TensorChunk&)> spoil;
  };
  const Case cases[] = {
      {"more came than", [](auto& chunk) { return chunk.mutable_data()->append(1 << 20, 'x'), true; }},
      {"it ended after 4096 of", [](auto& chunk) { return chunk.set_checksum(0), true; }},
      {"an empty piece", [](auto& chunk) { return chunk.clear_data(), true; }},
      {"a piece of tensor 7", [](auto& chunk) { return chunk.set_tensor(7), true; }},
      {"the stream ended after 0 of", [](auto&) { return false; }},
      {"the stream ended after 4096 of", [count = 0](auto&) mutable { return ++count == 1; }},
  };
  for (const Case& c : cases) {
    coordinator_.spoil_tensor = c.spoil;
    const absl::Status status = LoadError(Place(0, 3));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    EXPECT_THAT(std::string(status.message()), HasSubstr("token_embd.weight"));
    done_ = 0;
  }
}

TEST_F(ShardLoaderTest, LostCoordinatorReturnsUnavailable) {
  const v1::Place place = Place(0, 3);
  coordinator_.Stop();
  EXPECT_EQ(LoadError(place).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShardLoaderTest, CancelEndsALoadThatWaitsForTheCoordinator) {
  struct Signals {
    absl::Notification asked, over;
  };
  // Shared with the fake coordinator, whose call may still be returning when the test's body ends.
  const auto signals = std::make_shared<Signals>();
  coordinator_.spoil_tensor = [signals](v1::TensorChunk&) {
    if (!signals->asked.HasBeenNotified()) signals->asked.Notify();
    signals->over.WaitForNotification();  // sends nothing
    return false;
  };
  std::thread canceller([&] {
    signals->asked.WaitForNotification();
    cancel_.Cancel();
  });
  EXPECT_EQ(LoadError(Place(0, 3)).code(), absl::StatusCode::kCancelled);
  signals->over.Notify();
  canceller.join();
}

TEST_F(ShardLoaderTest, LoadCancelledBeforehandReturnsCancelled) {
  cancel_.Cancel();
  EXPECT_EQ(LoadError(Place(0, 3)).code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace tandem::worker
