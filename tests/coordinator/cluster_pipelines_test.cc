// Several pipelines in one cluster, and the draft model's worker.
#include "tests/coordinator/cluster_fixture.h"

namespace tandem::coordinator {
namespace {

TEST_F(ClusterTest, SeveralPipelinesServeBesideEachOther) {
  ServeInTwoPipelines();
  ASSERT_EQ(ends_.attached.size(), 2u);
  EXPECT_EQ(ends_.attached[0].epoch, 100u);
  EXPECT_EQ(ends_.attached[1].epoch, 101u);
  EXPECT_EQ(ends_.attached[1].num_stages, 1);
  EXPECT_GT(ends_.attached[1].tokens_per_s, 0);
  EXPECT_EQ(left_->place().epoch(), 100u);
  EXPECT_EQ(right_->place().epoch(), 101u);
  const v1::ClusterState state = cluster_->State();
  EXPECT_EQ(state.pipelines_size(), 2);
  EXPECT_EQ(state.unused_size(), 0);
  EXPECT_EQ(state.workers(1).load_bytes_done(), 0u);
  EXPECT_TRUE(state.workers(1).from_local_file());
}

TEST_F(ClusterTest, OnePipelineBreaksAndTheOtherServesOn) {
  ServeInTwoPipelines();
  cluster_->OnPipelineBroken(100, absl::InternalError("stage 0 failed"), now_);
  EXPECT_THAT(ends_.detached_epochs, ElementsAre(100));
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  EXPECT_EQ(detail(), "stage 0 failed");
  EXPECT_THAT(cluster_->State().unused(), ElementsAre("left"));
  EXPECT_TRUE(left_->messages.back().has_unload());
  Pass(milliseconds(500));
  EXPECT_EQ(left_->place().epoch(), 102u);
  EXPECT_EQ(right_->place().epoch(), 101u) << "it has heard nothing since";
  EXPECT_EQ(ends_.explained, "loading") << "that was before any served";
  Loaded(1, 102);
  EXPECT_EQ(detail(), "");
  EXPECT_EQ(cluster_->State().pipelines_size(), 2);
}

// What one pipeline's link was measured to be must not make the other look slower than the same one planned anew.
TEST_F(ClusterTest, ALostSlowLinkGivesUpNoOtherPipeline) {
  Start(2);
  for (const auto& [id, name] : {std::pair(1, "a0"), {2, "a1"}}) Join(id, name, kFast);
  Pass(milliseconds(300));
  ASSERT_THAT(ends_.served, ElementsAre(100));
  Loaded(1, 100, 0, {.latency_s = 0.02, .bytes_per_s = 1e8});
  Loaded(2, 100, 0, {.latency_s = 0.02, .bytes_per_s = 1e8});
  for (const auto& [id, name] : {std::pair(3, "b0"), {4, "b1"}}) Join(id, name, kFast);
  Pass(milliseconds(300));
  ASSERT_THAT(ends_.served, ElementsAre(100, 101));
  Loaded(3, 101, 0, {.latency_s = 0.0001, .bytes_per_s = 1e9});
  Loaded(4, 101, 0, {.latency_s = 0.0001, .bytes_per_s = 1e9});
  for (uint64_t id : {1, 2}) {
    std::erase(ids_, id);
    cluster_->Leave(id, absl::UnavailableError("its connection has ended"), now_);
  }
  Pass(milliseconds(300));
  Pass(milliseconds(300));
  EXPECT_THAT(ends_.detached_epochs, ElementsAre(100));
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
}

TEST_F(ClusterTest, AFreeWorkerIsPlacedWhileAnotherPipelineLoads) {
  ServeInTwoPipelines();
  Join(3, "third", kFast);
  Pass(milliseconds(300));
  ASSERT_EQ(ends_.served.back(), 102u);
  cluster_->OnPipelineBroken(100, absl::InternalError("stage 0 failed"), now_);
  Pass(milliseconds(500));
  EXPECT_EQ(ends_.served.back(), 103u) << "although 102 still loads";
  EXPECT_EQ(left_->place().epoch(), 103u);
}

TEST_F(ClusterTest, AWorkerThatJoinsServesBesideTheOthers) {
  ServeInTwoPipelines();
  auto third = Join(3, "third", kFast);
  auto slow = Join(4, "slow", /*speed=*/1);
  Pass(milliseconds(300));
  EXPECT_EQ(third->place().epoch(), 102u);
  EXPECT_EQ(slow->messages.size(), 1u) << "only the welcome";
  EXPECT_THAT(ends_.detached_epochs, IsEmpty());
  Loaded(3, 102);
  EXPECT_THAT(cluster_->State().unused(), ElementsAre("slow"));
}

TEST_F(ClusterTest, ALostWorkerEndsItsPipelineOnly) {
  ServeInTwoPipelines();
  std::erase(ids_, 2u);
  cluster_->Leave(2, absl::UnavailableError("its connection has ended"), now_);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  EXPECT_EQ(detail(), "worker right left: its connection has ended");
  Pass(milliseconds(300));
  EXPECT_EQ(detail(), "") << "there is nothing to be done";
  EXPECT_EQ(cluster_->State().pipelines_size(), 1);
  EXPECT_FALSE(left_->ended);
  EXPECT_EQ(left_->place().epoch(), 100u);
}

TEST_F(ClusterTest, AWorkerToSpareRunsTheDraftModel) {
  Start(1, engine::TensorType::kF32, /*drafted=*/true);
  left_ = Join(1, "left", 10 * kFast);
  right_ = Join(2, "right", kFast);
  auto slow = Join(3, "slow", /*speed=*/1);
  Pass(milliseconds(300));
  EXPECT_THAT(ends_.served, ElementsAre(100));
  EXPECT_THAT(draft_ends_.served, ElementsAre(101));
  EXPECT_EQ(left_->place().epoch(), 100u);
  EXPECT_EQ(right_->place().epoch(), 101u);
  EXPECT_EQ(right_->place().num_stages(), 1u);
  EXPECT_EQ(right_->place().next_address(), "10.0.0.1:7070");
  EXPECT_EQ(slow->messages.size(), 1u) << "one is enough";
  Loaded(2, 101);
  EXPECT_EQ(phase(), v1::PHASE_LOADING) << "guesses alone serve nobody";
  Loaded(1, 100);
  ASSERT_EQ(draft_ends_.attached.size(), 1u);
  EXPECT_EQ(draft_ends_.attached[0].epoch, 101u);
  ASSERT_EQ(ends_.attached.size(), 1u);
  v1::ClusterState state = cluster_->State();
  EXPECT_EQ(state.phase(), v1::PHASE_SERVING);
  EXPECT_EQ(state.pipelines_size(), 1);
  EXPECT_EQ(state.draft().stages(0).worker(), "right");
  EXPECT_EQ(state.draft_model().fingerprint(), model_->fingerprint());
  EXPECT_THAT(state.unused(), ElementsAre("slow"));

  // Another one takes its place.
  std::erase(ids_, 2u);
  cluster_->Leave(2, absl::UnavailableError("its connection has ended"), now_);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  EXPECT_THAT(draft_ends_.detached_epochs, ElementsAre(101));
  Pass(milliseconds(300));
  EXPECT_EQ(slow->place().epoch(), 102u);
  EXPECT_THAT(ends_.detached, IsEmpty());
}

TEST_F(ClusterTest, ThePipelineTakesTheWorkerThatDrafts) {
  Start(1, engine::TensorType::kF32, /*drafted=*/true);
  left_ = Join(1, "left", 10 * kFast);
  right_ = Join(2, "right", kFast);
  Pass(milliseconds(300));
  Loaded(1, 100);
  Loaded(2, 101);
  std::erase(ids_, 1u);
  cluster_->Leave(1, absl::UnavailableError("its connection has ended"), now_);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  Pass(milliseconds(300));
  EXPECT_THAT(draft_ends_.detached_epochs, ElementsAre(101));
  EXPECT_EQ(right_->place().epoch(), 102u);
  EXPECT_THAT(ends_.served, ElementsAre(100, 102));
  EXPECT_FALSE(cluster_->State().has_draft());
  Loaded(2, 102);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
}

TEST_F(ClusterTest, AMuchFasterWorkerServesBesideTheOneThatLoads) {
  Start(1);
  left_ = Join(1, "left");
  Pass(milliseconds(300));
  auto fast = Join(2, "fast", 10);
  Pass(milliseconds(300));
  EXPECT_EQ(fast->place().epoch(), 101u);
  Loaded(2, 101);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  EXPECT_THAT(ends_.detached_epochs, IsEmpty());
}

}  // namespace
}  // namespace tandem::coordinator
