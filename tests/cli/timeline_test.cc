// The stages' timeline of `tandem bench`, its chart, and the texts of the report.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/bench/report_text.h"
#include "cli/bench/stage_timeline.h"
#include "cli/bench/timeline_svg.h"

namespace tandem::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Each stage: queue and compute, microseconds.
v1::StepTrace Trace(uint64_t step, uint64_t planned_us, uint64_t round_trip_us,
                    const std::vector<std::pair<uint32_t, uint32_t>>& stages, uint32_t prefill = 0,
                    uint32_t decode = 1) {
  v1::StepTrace trace;
  trace.set_epoch(1);
  trace.set_step(step);
  trace.set_planned_us(planned_us);
  trace.set_round_trip_us(round_trip_us);
  trace.set_prefill_tokens(prefill);
  trace.set_decode_tokens(decode);
  for (const auto& [queue_us, compute_us] : stages) {
    v1::StageTiming& stage = *trace.add_stages();
    stage.set_queue_us(queue_us);
    stage.set_compute_us(compute_us);
  }
  return trace;
}

TEST(StageTimelineTest, LaysStepsOutFromTheirPlanning) {
  StageTimeline timeline;
  // 1000 us: 300 and 400 computing, 100 waiting, so 200 on the wire: 66.7 on each of three hops.
  ASSERT_TRUE(timeline.Add(Trace(1, 5'000'000, 1000, {{0, 300}, {100, 400}}, /*prefill=*/3, /*decode=*/1)));
  ASSERT_TRUE(timeline.Add(Trace(2, 5'000'500, 1500, {{0, 300}, {0, 300}})));
  ASSERT_EQ(timeline.stages().size(), 2u);
  EXPECT_EQ(timeline.num_steps(), 2u);
  EXPECT_EQ(timeline.prefill_tokens(), 3u);
  EXPECT_EQ(timeline.decode_tokens(), 2u);
  EXPECT_DOUBLE_EQ(timeline.wall_s(), 0.002);
  const StageUse& first = timeline.stages()[0];
  const StageUse& second = timeline.stages()[1];
  constexpr double kHop = 200e-6 / 3;
  EXPECT_NEAR(first.intervals[0].start_s, kHop, 1e-12);
  EXPECT_NEAR(first.intervals[0].end_s, kHop + 300e-6, 1e-12);
  EXPECT_NEAR(second.intervals[0].start_s, 2 * kHop + 400e-6, 1e-12);
  EXPECT_NEAR(second.intervals[0].end_s, 2 * kHop + 800e-6, 1e-12);
  EXPECT_DOUBLE_EQ(first.intervals[0].prefill_share, 0.75);
  EXPECT_DOUBLE_EQ(first.intervals[1].prefill_share, 0);
  EXPECT_NEAR(first.intervals[1].start_s, 500e-6 + 300e-6, 1e-12);
  EXPECT_NEAR(first.utilisation, 600.0 / 2000, 1e-12);
  EXPECT_NEAR(second.utilisation, 700.0 / 2000, 1e-12);
  EXPECT_NEAR(second.queue_s, 100e-6, 1e-12);
}

v1::StepTrace Of(uint32_t pipeline, v1::StepTrace trace) {
  trace.set_pipeline(pipeline);
  return trace;
}

TEST(StageTimelineTest, PipelinesHaveTheirOwnStages) {
  StageTimeline timeline;
  ASSERT_TRUE(timeline.Add(Of(1, Trace(1, 5'000'000, 1000, {{0, 400}}))));
  EXPECT_EQ(timeline.NameOf(timeline.stages()[0]), "0");
  // Planned before, and back later.
  ASSERT_TRUE(timeline.Add(Of(0, Trace(1, 4'999'000, 3000, {{0, 1000}, {0, 500}}))));
  ASSERT_TRUE(timeline.Add(Of(1, Trace(2, 5'001'000, 1000, {{0, 400}}))));
  ASSERT_EQ(timeline.stages().size(), 3u);
  EXPECT_EQ(timeline.NameOf(timeline.stages()[1]), "0.1");
  EXPECT_EQ(timeline.NameOf(timeline.stages()[2]), "1.0");
  EXPECT_DOUBLE_EQ(timeline.wall_s(), 0.002);
  EXPECT_NEAR(timeline.stages()[1].compute_s, 500e-6, 1e-12);
  EXPECT_NEAR(timeline.stages()[2].utilisation, 0.4, 1e-9);
  EXPECT_NEAR(timeline.steps()[1].end_s, 0.002, 1e-12);
  EXPECT_THAT(TimelineSvg(timeline), HasSubstr("id=\"stage-1.0\""));
  LoadDescription load;
  EXPECT_THAT(ReportTable(load, LoadReport(), timeline), HasSubstr("  1.0 "));
  // As many as there may be at all.
  for (uint32_t pipeline = 2; timeline.stages().size() < StageTimeline::kMaxStages; ++pipeline) {
    ASSERT_TRUE(timeline.Add(Of(pipeline, Trace(1, 5'001'000, 1000, {{0, 400}}))));
  }
  EXPECT_FALSE(timeline.Add(Of(1'000'000, Trace(1, 5'001'000, 1000, {{0, 400}}))));
  EXPECT_TRUE(timeline.Add(Of(0, Trace(2, 5'001'000, 1000, {{0, 400}}))));
}

TEST(StageTimelineTest, TheWireIsSharedOutAsTheHopsWereMeasured) {
  v1::StepTrace trace = Trace(1, 0, 1000, {{0, 300}, {100, 400}});  // 200 us on the wire
  trace.set_first_wire_us(10);
  trace.mutable_stages(0)->set_wire_us(70);
  trace.mutable_stages(1)->set_wire_us(20);
  StageTimeline timeline;
  ASSERT_TRUE(timeline.Add(trace));
  EXPECT_NEAR(timeline.stages()[0].intervals[0].start_s, 20e-6, 1e-12);
  EXPECT_NEAR(timeline.stages()[1].intervals[0].start_s, 20e-6 + 300e-6 + 140e-6 + 100e-6, 1e-12);
  trace.mutable_stages(1)->set_wire_us(0);  // not measured yet
  StageTimeline evenly;
  ASSERT_TRUE(evenly.Add(trace));
  EXPECT_NEAR(evenly.stages()[0].intervals[0].start_s, 200e-6 / 3, 1e-12);
}

TEST(StageTimelineTest, AStageComputesOneStepAtATime) {
  StageTimeline timeline;
  ASSERT_TRUE(timeline.Add(Trace(1, 100, 100, {{0, 100}})));
  ASSERT_TRUE(timeline.Add(Trace(2, 110, 100, {{0, 100}})));  // clocks say 110: it cannot have begun before 200
  EXPECT_NEAR(timeline.stages()[0].intervals[1].start_s, 100e-6, 1e-12);
  EXPECT_NEAR(timeline.stages()[0].intervals[1].end_s, 200e-6, 1e-12);
}

TEST(StageTimelineTest, OfManyStagesTheIntervalsOfFewerStepsAreKept) {
  const std::vector<std::pair<uint32_t, uint32_t>> stages(4096, {0, 10});
  StageTimeline timeline;
  for (uint64_t step = 1; step <= 300; ++step) ASSERT_TRUE(timeline.Add(Trace(step, step * 10, 50000, stages)));
  EXPECT_EQ(timeline.num_steps(), 300u);
  EXPECT_EQ(timeline.steps().size(), 256u);
  EXPECT_EQ(timeline.stages()[4095].intervals.size(), 256u);
  EXPECT_NEAR(timeline.stages()[0].compute_s, 300 * 10e-6, 1e-9);
  LoadDescription load;
  EXPECT_THAT(ReportTable(load, LoadReport(), timeline), HasSubstr("utilisation of 4096 stages: mean"));
}

TEST(StageTimelineTest, ImpossibleTracesAreLeftOut) {
  StageTimeline timeline;
  EXPECT_FALSE(timeline.Add(Trace(1, 100, 100, {})));
  EXPECT_FALSE(
      timeline.Add(Trace(1, 100, 100, std::vector<std::pair<uint32_t, uint32_t>>(StageTimeline::kMaxStages + 1))));
  v1::StepTrace far = Trace(1, 100, 100, {{0, 50}});
  far.set_pipeline(4'000'000'000u);
  EXPECT_FALSE(timeline.Add(far));
  ASSERT_TRUE(timeline.Add(Trace(1, 100, 100, {{0, 50}})));
  EXPECT_FALSE(timeline.Add(Trace(2, 99, 100, {{0, 50}})));
  // More time in the stages than in all: no wire.
  ASSERT_TRUE(timeline.Add(Trace(3, 300, 100, {{4'000'000'000u, 4'000'000'000u}})));
  EXPECT_EQ(timeline.num_steps(), 2u);
  EXPECT_NEAR(timeline.stages()[0].intervals[1].start_s, 4000.0002, 1e-6);
}

TEST(StageTimelineTest, LostStepsAndMoreStagesLater) {
  StageTimeline timeline;
  ASSERT_TRUE(timeline.Add(Trace(1, 100, 100, {{0, 50}})));
  v1::StepTrace second = Trace(9, 300, 100, {{0, 40}, {0, 40}});
  second.set_lost(7);
  ASSERT_TRUE(timeline.Add(second));
  EXPECT_EQ(timeline.lost_steps(), 7u);
  ASSERT_EQ(timeline.stages().size(), 2u);
  EXPECT_NEAR(timeline.stages()[0].utilisation, 90.0 / 300, 1e-12);
  EXPECT_NEAR(timeline.stages()[1].utilisation, 40.0 / 300, 1e-12);
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

TEST(TimelineSvgTest, ARowAStageABarAStep) {
  StageTimeline timeline;
  timeline.Add(Trace(1, 0, 1000, {{0, 300}, {100, 400}}, 8, 0));
  timeline.Add(Trace(2, 1000, 1000, {{0, 300}, {100, 400}}, 0, 8));
  timeline.Add(Trace(3, 2000, 1000, {{0, 300}, {100, 400}}, 4, 4));
  const std::string svg = TimelineSvg(timeline);
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_EQ(Count(svg, "<g class=\"stage\""), 2);
  // Each colour in two rows and the legend.
  for (const char* colour : {"#d9730d", "#2f7fd6", "#847972"}) EXPECT_EQ(Count(svg, colour), 3) << colour;
  EXPECT_THAT(svg, HasSubstr("stage 0: 30.0 %"));
  EXPECT_THAT(svg, HasSubstr("stage 1: 40.0 %"));
  // Axis: 3 ms, a label each half.
  for (const char* label : {">0.0<", ">0.5<", ">2.5<", ">3.0<", ">ms<"}) EXPECT_THAT(svg, HasSubstr(label));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  // The first bar: a hop of 200 / 3 us of 3000 from the left edge, 300 of 3000 wide.
  EXPECT_THAT(svg, HasSubstr("<rect x=\"152.22\" y=\"48\" width=\"100.00\" height=\"22\" fill=\"#d9730d\"/>"));
}

TEST(TimelineSvgTest, OfManyStepsTheMiddle) {
  StageTimeline timeline;
  for (uint64_t i = 0; i < 1000; ++i) timeline.Add(Trace(i + 1, i * 20'000, 20'000, {{0, 10'000}}));
  const std::string svg = TimelineSvg(timeline);
  EXPECT_EQ(Count(svg, "fill=\"#2f7fd6\""), static_cast<int>(kMaxChartSteps) + 1);  // and the legend
  EXPECT_THAT(svg, HasSubstr("300 of 1000 steps, from 7.000 s on"));
  EXPECT_THAT(svg, HasSubstr(">s<"));
  EXPECT_LT(svg.size(), 40'000u);
}

TEST(TimelineSvgTest, WithoutStepsOnlyTheAxis) {
  const std::string svg = TimelineSvg(StageTimeline());
  EXPECT_EQ(Count(svg, "<g class=\"stage\""), 0);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
}

TEST(ReportTextTest, TableAndJsonSayTheSame) {
  LoadReport report;
  report.wall_s = 2;
  report.ok = 8;
  report.failed = 1;
  report.errors = {{"UNAVAILABLE", 1}};
  report.first_error = "bad \xff byte";
  report.prompt_tokens = 100;
  report.cached_tokens = 60;
  report.answer_tokens = 50;
  report.guessed_tokens = 9;
  report.right_guesses = 7;
  report.first_token_s = SpreadOf({0.1, 0.2, 0.3});
  StageTimeline timeline;
  timeline.Add(Trace(1, 0, 1000, {{0, 500}, {0, 250}}));
  LoadDescription load;
  load.server = "host:1";
  load.model = "tiny";
  load.arrivals = "8 clients";
  load.seed = 42;
  const std::string table = ReportTable(load, report, timeline);
  for (const char* text :
       {"tiny at host:1; 8 clients; seed 42", "8 ok, 1 failed in 2.00 s: 4.00 a second",
        "prompts   100 tokens, 50.0 a second; 60 were computed before",
        "answers   50 tokens, 25.0 a second; 7 of 9 guesses right", "1 x UNAVAILABLE", "50.0 %", "25.0 %"}) {
    EXPECT_THAT(table, HasSubstr(text));
  }
  EXPECT_THAT(table, testing::ContainsRegex("time to first token +200.00 +200.00 +280.00 +298.00 +300.00"));
  EXPECT_THAT(table, Not(HasSubstr("time between tokens")));  // there was none
  const auto json = nlohmann::json::parse(ReportJson(load, report, timeline));
  EXPECT_EQ(json["requests"]["ok"], 8);
  EXPECT_EQ(json["errors"]["UNAVAILABLE"], 1);
  EXPECT_EQ(json["cached_tokens"], 60);
  EXPECT_EQ(json["answer_tokens_per_s"], 25);
  EXPECT_DOUBLE_EQ(json["time_to_first_token_s"]["p90"], 0.28);
  ASSERT_EQ(json["stages"].size(), 2u);
  EXPECT_DOUBLE_EQ(json["stages"][0]["utilisation"], 0.5);
  EXPECT_EQ(json["steps"]["count"], 1);
}

TEST(ReportTextTest, WithoutStepsUtilisationIsLeftOutAndTheReasonNamed) {
  LoadDescription load;
  load.no_stages_because = "the server does not show its steps";
  const std::string table = ReportTable(load, LoadReport(), StageTimeline());
  EXPECT_THAT(table, HasSubstr("no utilisation of stages: the server does not show its steps"));
  const auto json = nlohmann::json::parse(ReportJson(load, LoadReport(), StageTimeline()));
  EXPECT_FALSE(json.contains("stages"));
  EXPECT_EQ(json["no_stages_because"], "the server does not show its steps");
}

}  // namespace
}  // namespace tandem::cli
