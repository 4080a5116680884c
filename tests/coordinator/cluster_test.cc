#include "tests/coordinator/cluster_fixture.h"

namespace tandem::coordinator {
namespace {

TEST_F(ClusterTest, WaitsPlacesLoadsAndServes) {
  Start(2);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_EQ(detail(), "waiting for 2 more workers");
  left_ = Join(1, "left");
  ASSERT_EQ(left_->messages.size(), 1u);
  EXPECT_EQ(left_->messages[0].welcome().worker_id(), 1u);
  EXPECT_EQ(left_->messages[0].welcome().lease_ms(), 10000u);
  Pass(milliseconds(500));
  EXPECT_EQ(detail(), "waiting for 1 more worker");
  EXPECT_EQ(ends_.explained, "waiting for 1 more worker");
  right_ = Join(2, "right");
  Pass(milliseconds(299));
  EXPECT_THAT(ends_.served, IsEmpty());
  Pass(milliseconds(1));
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  EXPECT_THAT(ends_.served, ElementsAre(100));

  const v1::Place first = left_->place(), last = right_->place();
  EXPECT_EQ(first.first_layer(), 0u);
  EXPECT_EQ(first.end_layer(), last.first_layer());
  EXPECT_EQ(last.end_layer(), 6u);
  EXPECT_EQ(first.next_address(), "10.0.0.2:9005") << "the second worker";
  EXPECT_EQ(last.next_address(), "10.0.0.1:7070") << "the coordinator";
  EXPECT_EQ(last.stage(), 1u);
  EXPECT_EQ(last.num_stages(), 2u);
  EXPECT_EQ(last.kv().num_pages(), 8u * 256 / 32);
  EXPECT_EQ(first.model().fingerprint(), model_->fingerprint());
  EXPECT_EQ(first.model().header_bytes(), model_->file().header().size());

  v1::WorkerMessage progress;
  progress.mutable_progress()->set_epoch(100);
  progress.mutable_progress()->set_bytes_done(7);
  progress.mutable_progress()->set_bytes_total(9);
  cluster_->OnMessage(1, progress, now_, now_);
  EXPECT_EQ(cluster_->State().workers(0).load_bytes_done(), 7u);
  EXPECT_EQ(cluster_->State().workers(0).memory_used(), 5u);

  Loaded(2, 100);
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  Loaded(1, 100);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  EXPECT_EQ(ends_.address, "10.0.0.2:9004");
  ASSERT_EQ(ends_.attached.size(), 1u);
  EXPECT_EQ(ends_.attached[0].epoch, 100u);
  EXPECT_EQ(ends_.attached[0].num_stages, 2);
  EXPECT_EQ(ends_.attached[0].context, 256);
  const v1::ClusterState state = cluster_->State();
  EXPECT_EQ(state.pipelines(0).stages(0).weight_bytes(), 12345u) << "what is held, not what was planned";
  EXPECT_TRUE(state.workers(0).from_local_file());
  EXPECT_GT(state.pipelines(0).predicted_decode_tokens_per_s(), 0);
}

TEST_F(ClusterTest, SlowLinkNarrowsTheHopOnceItIsMeasured) {
  Start(2, ActivationChoice());
  left_ = Join(1, "left");
  right_ = Join(2, "right");
  Pass(milliseconds(300));
  EXPECT_EQ(left_->place().activation_type(), v1::ACTIVATION_TYPE_F32);
  EXPECT_EQ(right_->place().activation_type(), v1::ACTIVATION_TYPE_UNSPECIFIED);
  Loaded(1, 100, 0, {.latency_s = 0.5, .bytes_per_s = 10});
  Loaded(2, 100, 0, {.latency_s = 0.5, .bytes_per_s = 10});
  ASSERT_EQ(phase(), v1::PHASE_SERVING);
  ASSERT_TRUE(left_->messages.back().has_send_as());
  EXPECT_EQ(left_->messages.back().send_as().epoch(), 100u);
  EXPECT_EQ(left_->messages.back().send_as().activation_type(), v1::ACTIVATION_TYPE_Q8_0);
  EXPECT_TRUE(right_->messages.back().has_place()) << "the last stage sends no activations";
  const v1::Placement placement = cluster_->State().pipelines(0);
  EXPECT_EQ(placement.stages(0).activation_type(), v1::ACTIVATION_TYPE_Q8_0);
  EXPECT_GT(placement.stages(0).predicted_hop_s(), 0.5);
  EXPECT_EQ(placement.stages(1).predicted_hop_s(), 0);
}

TEST_F(ClusterTest, ImpossibleMeasureIsPassedOver) {
  Start(2, ActivationChoice());
  left_ = Join(1, "left");
  right_ = Join(2, "right");
  Pass(milliseconds(300));
  Loaded(1, 100, 0, {.latency_s = std::numeric_limits<double>::quiet_NaN(), .bytes_per_s = 10});
  Loaded(2, 100);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  EXPECT_TRUE(left_->messages.back().has_place());
}

TEST_F(ClusterTest, RefusedWorkerIsToldWhy) {
  Start(1);
  auto session = std::make_shared<FakeSession>();
  v1::Hello hello = Hello("old", 1, 1 << 30);
  hello.set_protocol_version(0);
  cluster_->Join(1, hello, session, now_);
  EXPECT_TRUE(session->ended);
  EXPECT_EQ(session->end.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(session->messages.empty());
}

TEST_F(ClusterTest, LostWorkerEndsThePipelineAndTheRestIsPlacedAnew) {
  Serve2();
  auto spare = Join(3, "spare", /*speed=*/0.5);
  Pass(milliseconds(300));
  EXPECT_EQ(phase(), v1::PHASE_SERVING) << "it would not help: nothing moves";
  std::erase(ids_, 1u);
  cluster_->Leave(1, absl::UnavailableError("its connection has ended"), now_);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_THAT(ends_.detached.back(), HasSubstr("worker left left"));
  EXPECT_TRUE(right_->messages.back().has_unload());
  Pass(milliseconds(300));
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  EXPECT_EQ(right_->place().epoch(), 101u);
  EXPECT_EQ(spare->place().epoch(), 101u);
}

TEST_F(ClusterTest, TooFewLeftMeansWaitingWithTheReason) {
  Serve2();
  cluster_->Leave(2, absl::UnavailableError("its connection has ended"), now_);
  std::erase(ids_, 2u);
  Pass(milliseconds(1000));
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_EQ(detail(), "waiting for 1 more worker (worker right left: its connection has ended)");
}

TEST_F(ClusterTest, SilentWorkerLosesItsLease) {
  Serve2();
  ids_ = {1};
  Pass(seconds(9));
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  Pass(seconds(2));
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_TRUE(right_->ended);
  EXPECT_EQ(right_->end.code(), absl::StatusCode::kUnavailable) << "it may join again";
  EXPECT_FALSE(left_->ended);
}

TEST_F(ClusterTest, MuchFasterWorkerTakesOver) {
  Serve2();
  auto fast = Join(3, "fast", /*speed=*/10);
  Pass(milliseconds(300));
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  EXPECT_EQ(fast->place().epoch(), 101u);
  EXPECT_THAT(ends_.detached.back(), HasSubstr("better placement"));
}

TEST_F(ClusterTest, EqualWorkerTakesAShareForFasterPrompts) {
  Serve2();
  auto third = Join(3, "third");
  Pass(milliseconds(300));
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  EXPECT_EQ(third->place().num_stages(), 3u);
}

TEST_F(ClusterTest, JoinDuringALoadIsConsideredAfterIt) {
  Start(1);
  left_ = Join(1, "left");
  Pass(milliseconds(300));
  ASSERT_EQ(phase(), v1::PHASE_LOADING);
  auto other = Join(2, "other");
  Pass(milliseconds(1000));
  EXPECT_EQ(other->messages.size(), 1u) << "only the welcome";
  Loaded(1, 100);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  Pass(milliseconds(1));
  EXPECT_EQ(other->place().epoch(), 101u);
}

TEST_F(ClusterTest, FailedLoadIsShownAndRetriedEverMoreSlowly) {
  Start(1);
  left_ = Join(1, "left");
  Pass(milliseconds(300));
  Loaded(1, 100, /*code=*/8);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_EQ(detail(), "worker left could not load its layers: disk full");
  EXPECT_TRUE(left_->messages.back().has_unload());
  milliseconds pause(500);
  for (uint64_t epoch = 101; epoch < 105; ++epoch) {
    Pass(pause - milliseconds(1));
    EXPECT_EQ(phase(), v1::PHASE_WAITING);
    Pass(milliseconds(1));
    EXPECT_EQ(left_->place().epoch(), epoch);
    Loaded(1, epoch, 8);
    pause *= 2;
  }
  // A worker that joins is a reason to try at once.
  Join(2, "other");
  Pass(milliseconds(300));
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
}

TEST_F(ClusterTest, LoadThatStandsStillIsAFailure) {
  Start(2);
  left_ = Join(1, "left");
  Join(2, "right");
  Pass(milliseconds(300));
  v1::WorkerMessage news;
  news.mutable_progress()->set_epoch(100);
  news.mutable_progress()->set_bytes_total(1000);
  for (uint64_t done = 1; done < 4; ++done) {
    for (int i = 0; i < 100; ++i) Pass(seconds(1));
    news.mutable_progress()->set_bytes_done(done);
    cluster_->OnMessage(2, news, now_, now_);
  }
  Loaded(1, 100);
  // The same news again is no progress.
  for (int i = 0; i < 119; ++i) {
    Pass(seconds(1));
    cluster_->OnMessage(2, news, now_, now_);
  }
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  Pass(seconds(1));
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_EQ(detail(), "loading stands still for 120 s; waiting for right");
  EXPECT_TRUE(left_->messages.back().has_unload());
}

TEST_F(ClusterTest, WhatAWorkerSaysOfItsFailureIsSafeToPrint) {
  Start(1);
  left_ = Join(1, "left");
  Pass(milliseconds(300));
  v1::WorkerMessage message;
  message.mutable_done()->set_epoch(100);
  message.mutable_done()->set_code(8);
  message.mutable_done()->set_message("\x1b[2J" + std::string(5000, 'x'));
  cluster_->OnMessage(1, message, now_, now_);
  EXPECT_THAT(detail(), HasSubstr("\\033[2Jxxx"));
  EXPECT_LT(detail().size(), 1200u);
}

TEST_F(ClusterTest, FirstStageThatCannotBeDialledIsAFailure) {
  Start(1);
  Join(1, "left");
  Pass(milliseconds(300));
  ends_.attach_result = absl::UnavailableError("no connection to 10.0.0.2:9004");
  Loaded(1, 100);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_EQ(detail(), "no connection to 10.0.0.2:9004");
}

TEST_F(ClusterTest, BrokenPipelineIsPlacedAgain) {
  Serve2();
  cluster_->OnPipelineBroken(99, absl::InternalError("of an older epoch"), now_);
  EXPECT_EQ(phase(), v1::PHASE_SERVING);
  cluster_->OnPipelineBroken(100, absl::InternalError("stage 1 failed"), now_);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_EQ(detail(), "stage 1 failed");
  Pass(milliseconds(500));
  EXPECT_EQ(left_->place().epoch(), 101u);
}

TEST_F(ClusterTest, NewsOfAnotherEpochIsIgnored) {
  Start(1);
  Join(1, "left");
  Pass(milliseconds(300));
  Loaded(1, 99);
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
  Loaded(77, 100);
  EXPECT_EQ(phase(), v1::PHASE_LOADING);
}

TEST_F(ClusterTest, NoRoomIsExplainedWithTheNumbers) {
  Start(1);
  Join(1, "tiny", 1, 100000);
  Pass(milliseconds(300));
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
  EXPECT_THAT(detail(), HasSubstr("the model does not fit: it needs"));
  EXPECT_THAT(detail(), HasSubstr("tiny 97.7 KiB"));
  EXPECT_EQ(ends_.explained, detail());
  EXPECT_THAT(ends_.served, IsEmpty());
}

TEST_F(ClusterTest, SecondHelloEndsTheSession) {
  Start(1);
  left_ = Join(1, "left");
  v1::WorkerMessage message;
  *message.mutable_hello() = Hello("left", 1, 1 << 30);
  cluster_->OnMessage(1, message, now_, now_);
  EXPECT_EQ(left_->end.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ClusterTest, PlanForDoesNotPlace) {
  Start(5);
  EXPECT_EQ(cluster_->PlanFor(0).status().code(), absl::StatusCode::kFailedPrecondition);
  Join(1, "left");
  const auto plan = cluster_->PlanFor(64);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pipelines_size(), 1);
  EXPECT_EQ(plan->pipelines(0).num_pages(), 8u * 64 / 32);
  EXPECT_EQ(plan->pipelines(0).stages(0).worker(), "left");
  EXPECT_EQ(plan->pipelines(0).phase(), v1::PHASE_UNSPECIFIED);
  EXPECT_EQ(cluster_->PlanFor(1000).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(phase(), v1::PHASE_WAITING);
}

TEST_F(ClusterTest, StopEndsPipelineAndSessions) {
  Serve2();
  cluster_->Stop();
  EXPECT_THAT(ends_.detached.back(), HasSubstr("stopping"));
  EXPECT_EQ(left_->end.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(right_->end.code(), absl::StatusCode::kUnavailable);
}

// The thread around it.
TEST_F(ClusterTest, ManagerAnswersAndStops) {
  ClusterOptions options;
  ClusterManager manager(*model_, options, ends_);
  manager.Start("127.0.0.1:1");
  std::promise<absl::StatusCode> planned;
  manager.Plan(0, [&](absl::StatusOr<v1::PlanReply> plan) { planned.set_value(plan.status().code()); });
  EXPECT_EQ(planned.get_future().get(), absl::StatusCode::kFailedPrecondition);
  auto session = std::make_shared<FakeSession>();
  const uint64_t id = manager.Join(Hello("left", 1, 1 << 30), session);
  EXPECT_TRUE(manager.OnMessage(id, v1::WorkerMessage()));
  std::promise<absl::StatusCode> again;
  manager.Plan(0, [&](absl::StatusOr<v1::PlanReply> plan) { again.set_value(plan.status().code()); });
  EXPECT_EQ(again.get_future().get(), absl::StatusCode::kOk);
  manager.Stop();
  EXPECT_TRUE(session->ended);
  EXPECT_FALSE(manager.OnMessage(id, v1::WorkerMessage()));
  absl::StatusCode late = absl::StatusCode::kOk;
  manager.Plan(0, [&](absl::StatusOr<v1::PlanReply> plan) { late = plan.status().code(); });
  EXPECT_EQ(late, absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace tandem::coordinator
