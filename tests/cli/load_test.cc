// The parts of `tandem bench` that need no server: lengths, arrivals, traces, prompts and what is made of the records.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "cli/bench/load_report.h"
#include "cli/bench/prompt_source.h"
#include "cli/bench/simulated_load.h"
#include "cli/bench/workload.h"

namespace tandem::cli {
bool FuzzTrace(absl::string_view text);  // tests/fuzz/trace/trace_fuzz_body.cc
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;

// --- percentiles

TEST(PercentileTest, AreLinearBetweenTheNearestTwo) {
  EXPECT_EQ(Percentile({}, 0.5), 0);
  const std::vector<double> one = {7};
  EXPECT_EQ(Percentile(one, 0), 7);
  EXPECT_EQ(Percentile(one, 0.99), 7);
  const std::vector<double> four = {10, 20, 30, 40};  // places 0, 1, 2, 3
  EXPECT_DOUBLE_EQ(Percentile(four, 0), 10);
  EXPECT_DOUBLE_EQ(Percentile(four, 0.5), 25);     // place 1.5
  EXPECT_DOUBLE_EQ(Percentile(four, 0.9), 37);     // place 2.7
  EXPECT_DOUBLE_EQ(Percentile(four, 0.99), 39.7);  // place 2.97
  EXPECT_DOUBLE_EQ(Percentile(four, 1), 40);
  std::vector<double> hundred_and_one;
  for (int i = 0; i <= 100; ++i) hundred_and_one.push_back(i);
  for (double p : {0.5, 0.9, 0.99}) EXPECT_NEAR(Percentile(hundred_and_one, p), 100 * p, 1e-9);
}

TEST(SpreadTest, OfUnsortedValues) {
  const Spread spread = SpreadOf({40, 10, 30, 20});
  EXPECT_EQ(spread.count, 4u);
  EXPECT_DOUBLE_EQ(spread.mean, 25);
  EXPECT_DOUBLE_EQ(spread.p50, 25);
  EXPECT_DOUBLE_EQ(spread.p90, 37);
  EXPECT_DOUBLE_EQ(spread.most, 40);
  EXPECT_EQ(SpreadOf({}).count, 0u);
}

// --- lengths

LengthDistribution Lengths(const std::string& text) {
  const auto parsed = LengthDistribution::Parse(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *parsed : LengthDistribution();
}

TEST(LengthDistributionTest, ConstantAndUniform) {
  Random random(1, 1);
  EXPECT_EQ(Lengths("128").Draw(random), 128u);
  EXPECT_EQ(Lengths("128").largest(), 128u);
  const LengthDistribution uniform = Lengths("3..6");
  EXPECT_EQ(uniform.largest(), 6u);
  std::map<uint32_t, int> seen;
  for (int i = 0; i < 4000; ++i) ++seen[uniform.Draw(random)];
  ASSERT_EQ(seen.size(), 4u);
  for (const auto& [length, count] : seen) {
    EXPECT_GE(length, 3u);
    EXPECT_LE(length, 6u);
    EXPECT_NEAR(count, 1000, 140) << length;  // 5 standard deviations: sqrt(4000 * 1/4 * 3/4) = 27
  }
}

TEST(LengthDistributionTest, LognormalHasItsMedianAndSigmaAndItsCut) {
  Random random(5, 1);
  const LengthDistribution lengths = Lengths("lognormal(1000,0.5)");
  EXPECT_EQ(lengths.largest(), 7389u);  // 1000 * e^2
  double sum = 0, squares = 0;
  std::vector<double> drawn;
  for (int i = 0; i < 20000; ++i) {
    drawn.push_back(lengths.Draw(random));
    const double logarithm = std::log(drawn.back());
    sum += logarithm;
    squares += logarithm * logarithm;
  }
  EXPECT_THAT(drawn, Each(testing::Le(7389)));
  const double mean = sum / 20000;
  EXPECT_NEAR(mean, std::log(1000), 0.02);
  EXPECT_NEAR(std::sqrt(squares / 20000 - mean * mean), 0.5, 0.02);
  EXPECT_NEAR(SpreadOf(drawn).p50, 1000, 20);
  const LengthDistribution cut = Lengths("lognormal( 1000 , 0.5, 1100)");
  EXPECT_EQ(cut.largest(), 1100u);
  for (int i = 0; i < 100; ++i) EXPECT_LE(cut.Draw(random), 1100u);
  EXPECT_EQ(Lengths("lognormal(64,0)").Draw(random), 64u);
}

TEST(LengthDistributionTest, WhatIsNoneIsNamed) {
  for (const char* text : {"",
                           "0",
                           "-1",
                           "x",
                           "1.5",
                           "2000000",
                           "8..4",
                           "0..4",
                           "4..",
                           "..4",
                           "4..2000000",
                           "1..2..3",
                           "lognormal",
                           "lognormal(",
                           "lognormal()",
                           "lognormal(1)",
                           "lognormal(1,2",
                           "lognormal(0,1)",
                           "lognormal(5,-1)",
                           "lognormal(5,9)",
                           "lognormal(5,nan)",
                           "lognormal(5,1,0)",
                           "lognormal(5,1,2,3)",
                           "normal(5,1)"}) {
    const auto parsed = LengthDistribution::Parse(text);
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(absl::StrCat("\"", text, "\"")));
  }
}

// --- arrivals and prompts

WorkloadOptions Options() {
  WorkloadOptions options;
  options.source.ids = {3, 5, 7, 11, 13};
  options.prompt_tokens = Lengths("4..9");
  options.answer_tokens = Lengths("2");
  options.seed = 42;
  return options;
}

TEST(WorkloadTest, PoissonGapsAndCountsHaveTheirMeanAndVariance) {
  WorkloadOptions options = Options();
  options.prompt_tokens = Lengths("1");
  options.rate = 8;
  Workload workload(options);
  constexpr int kRequests = 40000;
  double before = 0, sum = 0, squares = 0;
  std::map<int, int> in_second;
  for (int i = 0; i < kRequests; ++i) {
    const double at_s = workload.Next()->at_s;
    ASSERT_GE(at_s, before);
    const double gap = at_s - before;
    before = at_s;
    sum += gap;
    squares += gap * gap;
    ++in_second[static_cast<int>(at_s)];
  }
  // Of gaps: mean 1/8, variance 1/64. Of arrivals in a second: both 8.
  const double mean = sum / kRequests;
  EXPECT_NEAR(mean * 8, 1, 0.02);
  EXPECT_NEAR((squares / kRequests - mean * mean) * 64, 1, 0.05);
  const int seconds = static_cast<int>(before);
  double count_squares = 0, counted = 0;
  for (int second = 0; second < seconds; ++second) {
    const double count = in_second[second];
    counted += count;
    count_squares += count * count;
  }
  const double count_mean = counted / seconds;
  EXPECT_NEAR(count_mean, 8, 0.16);
  EXPECT_NEAR(count_squares / seconds - count_mean * count_mean, 8, 0.6);
}

TEST(WorkloadTest, TheSameSeedGivesTheSameRequestsAndAnotherOneOthers) {
  WorkloadOptions options = Options();
  options.rate = 3;
  Workload first(options), second(options);
  options.seed = 43;
  Workload other(options);
  bool differs = false;
  for (int i = 0; i < 20; ++i) {
    const Arrival a = *first.Next(), b = *second.Next(), c = *other.Next();
    EXPECT_EQ(a.at_s, b.at_s);
    EXPECT_EQ(a.request.SerializeAsString(), b.request.SerializeAsString());
    differs = differs || a.request.ids().SerializeAsString() != c.request.ids().SerializeAsString();
  }
  EXPECT_TRUE(differs);
}

TEST(WorkloadTest, RequestsAreOfTheSourceWithThePrefixInFront) {
  WorkloadOptions options = Options();
  options.model = "m";
  options.shared_prefix = 6;
  Workload workload(options);
  std::vector<uint32_t> prefix;
  std::set<std::string> prompts;
  for (int i = 0; i < 30; ++i) {
    const v1::GenerateRequest request = workload.Next()->request;
    EXPECT_EQ(request.model(), "m");
    EXPECT_EQ(request.max_tokens(), 2u);
    EXPECT_TRUE(request.ignore_end_of_turn());
    const auto& ids = request.ids().ids();
    ASSERT_GE(ids.size(), 6 + 4);
    ASSERT_LE(ids.size(), 6 + 9);
    const std::vector<uint32_t> front(ids.begin(), ids.begin() + 6);
    if (prefix.empty()) prefix = front;
    EXPECT_EQ(front, prefix);
    for (uint32_t id : ids) EXPECT_THAT(options.source.ids, testing::Contains(id));
    prompts.insert(request.ids().SerializeAsString());
  }
  EXPECT_THAT(prompts.size(), Gt(25u));
}

TEST(WorkloadTest, APieceOfTextGoesOnAtItsStart) {
  WorkloadOptions options = Options();
  options.source.in_order = true;
  options.prompt_tokens = Lengths("12");
  const auto ids = Workload(options).Next()->request.ids().ids();
  ASSERT_EQ(ids.size(), 12);
  const std::map<uint32_t, uint32_t> follows = {{3, 5}, {5, 7}, {7, 11}, {11, 13}, {13, 3}};
  for (int i = 1; i < ids.size(); ++i) EXPECT_EQ(ids[i], follows.at(ids[i - 1]));
}

TEST(WorkloadTest, ATraceIsFollowedToItsEnd) {
  WorkloadOptions options = Options();
  options.trace = *ParseTrace(
      "{\"at_s\": 0, \"prompt_tokens\": 3, \"max_tokens\": 4}\n"
      "{\"at_s\": 1.5, \"prompt\": \"Hi\", \"max_tokens\": 5}\n");
  Workload workload(options);
  Arrival arrival = *workload.Next();
  EXPECT_EQ(arrival.at_s, 0);
  EXPECT_EQ(arrival.request.ids().ids_size(), 3);
  EXPECT_EQ(arrival.request.max_tokens(), 4u);
  arrival = *workload.Next();
  EXPECT_EQ(arrival.at_s, 1.5);
  EXPECT_EQ(arrival.request.prompt(), "Hi");
  EXPECT_FALSE(workload.Next().has_value());
}

TEST(WorkloadTest, WhatDoesNotFitTheContextIsRefusedWithTheNumbers) {
  WorkloadOptions options = Options();  // at most 9 + 2
  options.shared_prefix = 10;
  EXPECT_TRUE(Workload::CheckFits(options, 21).ok());
  const absl::Status status = Workload::CheckFits(options, 20);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("up to 19 tokens and answers of up to 2"));
  options.trace = {{.at_s = 0, .prompt_tokens = 2, .max_tokens = 30},
                   {.at_s = 1, .prompt_tokens = 20, .max_tokens = 1}};
  EXPECT_THAT(std::string(Workload::CheckFits(options, 41).message()),
              HasSubstr("up to 12 tokens and answers of up to 30"));
  EXPECT_TRUE(Workload::CheckFits(options, 42).ok());
}

TEST(PromptSourceTest, LeavesControlTokensOut) {
  // Every id divisible by 7 has a text only where it is spelled out.
  int calls = 0;
  const auto detokenize = [&calls](const std::vector<uint32_t>& ids, bool special) -> absl::StatusOr<std::string> {
    ++calls;
    std::string text;
    for (uint32_t id : ids) {
      if (special || id % 7 != 0) absl::StrAppend(&text, "<", id, ">");
    }
    return text;
  };
  for (uint32_t vocabulary : {5u, 300u, 50000u}) {
    const auto ids = RandomPromptTokens(vocabulary, 3, detokenize);
    ASSERT_TRUE(ids.ok()) << ids.status();
    std::set<uint32_t> distinct(ids->begin(), ids->end());
    EXPECT_EQ(distinct.size(), ids->size());
    for (uint32_t id : *ids) {
      EXPECT_NE(id % 7, 0u);
      EXPECT_LT(id, vocabulary);
    }
    const size_t looked_at = std::min(vocabulary, kPromptTokens);  // about a seventh of which are control tokens
    EXPECT_NEAR(static_cast<double>(ids->size()), looked_at * 6.0 / 7, 60) << vocabulary;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(RandomPromptTokens(1, 3, detokenize).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(RandomPromptTokens(0, 3, detokenize).status()));
  const auto gone = [](const std::vector<uint32_t>&, bool) -> absl::StatusOr<std::string> {
    return absl::UnavailableError("gone");
  };
  EXPECT_TRUE(absl::IsUnavailable(RandomPromptTokens(300, 3, gone).status()));
}

// --- traces

TEST(RequestTraceTest, LinesWithTimesAndLengthsOrTexts) {
  const auto trace = ParseTrace(
      "{\"at_s\": 0.25, \"prompt_tokens\": 128, \"max_tokens\": 64}\r\n\n"
      "  {\"max_tokens\":1,\"at_s\":3,\"prompt\":\"a\\nb\",\"prompt_tokens\":9}");
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[0].at_s, 0.25);
  EXPECT_EQ((*trace)[0].prompt_tokens, 128u);
  EXPECT_EQ((*trace)[0].max_tokens, 64u);
  EXPECT_EQ((*trace)[1].prompt, "a\nb");
  EXPECT_EQ((*trace)[1].prompt_tokens, 0u);
}

TEST(RequestTraceTest, BadLinesAreRefusedByNumber) {
  const std::string good = "{\"at_s\": 2, \"prompt_tokens\": 1, \"max_tokens\": 1}\n";
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{", "JSON"},
      {"[1]", "JSON"},
      {"\xff", "JSON"},
      {"{\"prompt_tokens\": 1, \"max_tokens\": 1}", "\"at_s\" is missing"},
      {"{\"at_s\": 3, \"max_tokens\": 1}", "\"prompt\" is missing"},
      {"{\"at_s\": 3, \"prompt_tokens\": 1}", "\"max_tokens\" is missing"},
      {"{\"at_s\": -3, \"prompt_tokens\": 1, \"max_tokens\": 1}", "at_s"},
      {"{\"at_s\": \"3\", \"prompt_tokens\": 1, \"max_tokens\": 1}", "at_s"},
      {"{\"at_s\": 1e99, \"prompt_tokens\": 1, \"max_tokens\": 1}", "at_s"},
      {"{\"at_s\": 1, \"prompt_tokens\": 1, \"max_tokens\": 1}", "goes back from 2 to 1"},
      {"{\"at_s\": 3, \"prompt_tokens\": 0, \"max_tokens\": 1}", "prompt_tokens"},
      {"{\"at_s\": 3, \"prompt_tokens\": 1.5, \"max_tokens\": 1}", "prompt_tokens"},
      {"{\"at_s\": 3, \"prompt_tokens\": 1, \"max_tokens\": 99999999999}", "max_tokens"},
      {"{\"at_s\": 3, \"prompt\": \"\", \"max_tokens\": 1}", "prompt"},
      {"{\"at_s\": 3, \"prompt\": [\"x\"], \"max_tokens\": 1}", "list or an object inside"},
      {"{\"at_s\": 3, \"prompt_tokens\": 1, \"max_token\": 1}", "unknown key \"max_token\""},
      {"{\"x\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "inside"},
  };
  for (const auto& [line, text] : bad) {
    const auto trace = ParseTrace(absl::StrCat(good, "\n", line, "\n", good));
    EXPECT_TRUE(absl::IsInvalidArgument(trace.status())) << line.substr(0, 80);
    EXPECT_THAT(std::string(trace.status().message()), testing::StartsWith("line 3: "));
    EXPECT_THAT(std::string(trace.status().message()), HasSubstr(text));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTrace("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTrace("\n \n").status()));
}

TEST(RequestTraceTest, SeedsOfTheFuzzerAreTakenOrRefused) {
  int valid = 0, seeds = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/fuzz/trace/corpus")) {
    std::ifstream stream(entry.path(), std::ios::binary);
    valid += FuzzTrace(std::string(std::istreambuf_iterator<char>(stream), {})) ? 1 : 0;
    ++seeds;
  }
  EXPECT_GE(seeds, 5);
  EXPECT_GE(valid, 3);
  EXPECT_LT(valid, seeds);
}

// --- reports

TEST(LoadReportTest, AddsUpWhatTheClientsSaw) {
  RequestRecord good;  // due at 1 s, sent 0.5 s late, tokens at 2, 2.1 and 2.3 s
  good.due_s = 1;
  good.sent_s = 1.5;
  good.first_token_s = 2;
  good.end_s = 2.5;
  good.gaps_s = {0.1, 0.2};
  good.prompt_tokens = 10;
  good.cached_tokens = 4;
  good.answer_tokens = 3;
  good.guessed_tokens = 5;
  good.right_guesses = 2;
  good.wanted_tokens = 4;
  RequestRecord refused;
  refused.due_s = refused.sent_s = 3;
  refused.end_s = 4;
  refused.prompt_tokens = 10;
  refused.status = absl::ResourceExhaustedError("full");
  RequestRecord broken = good;
  broken.status = absl::UnavailableError("gone");
  RequestRecord cut = good;
  cut.cut_off = true;
  cut.status = absl::CancelledError();
  cut.end_s = 5;
  const std::vector<RequestRecord> records = {good, refused, broken, cut};
  const LoadReport report = MakeReport(records);
  EXPECT_EQ(report.requests(), 4u);
  EXPECT_EQ(report.ok, 1u);
  EXPECT_EQ(report.failed, 2u);
  EXPECT_EQ(report.cut_off, 1u);
  EXPECT_EQ(report.short_answers, 1u);
  EXPECT_THAT(report.errors, ElementsAre(testing::Pair("RESOURCE_EXHAUSTED", 1), testing::Pair("UNAVAILABLE", 1)));
  EXPECT_EQ(report.first_error, "full");
  EXPECT_EQ(report.wall_s, 5);
  EXPECT_EQ(report.prompt_tokens, 30u);
  EXPECT_EQ(report.cached_tokens, 12u);
  EXPECT_EQ(report.answer_tokens, 9u);
  EXPECT_EQ(report.guessed_tokens, 15u);
  EXPECT_EQ(report.right_guesses, 6u);
  EXPECT_DOUBLE_EQ(report.PerSecond(report.answer_tokens), 1.8);
  EXPECT_EQ(report.first_token_s.count, 3u);
  EXPECT_DOUBLE_EQ(report.first_token_s.p50, 1);
  EXPECT_EQ(report.between_tokens_s.count, 6u);
  EXPECT_DOUBLE_EQ(report.between_tokens_s.p50, 0.15);
  EXPECT_EQ(report.latency_s.count, 1u);
  EXPECT_DOUBLE_EQ(report.latency_s.mean, 1.5);
  EXPECT_DOUBLE_EQ(report.most_late_s, 0.5);
}

TEST(LoadReportTest, OfNothing) {
  const LoadReport report = MakeReport({});
  EXPECT_EQ(report.requests(), 0u);
  EXPECT_EQ(report.PerSecond(5), 0);
}

// --- simulated loads

coordinator::PlanInput ThreeWorkers() {
  coordinator::PlanInput input;
  input.cost.layers.assign(12, {.weight_bytes = 10'000'000, .macs_per_token = 10'000'000});
  input.cost.head = {.weight_bytes = 5'000'000, .macs_per_token = 5'000'000};
  input.hidden = 1024;
  input.kv_bytes_per_token_layer = 1024;
  for (const char* name : {"a", "b", "c"}) input.devices.push_back({name, uint64_t{1} << 40, 10e9, 1e12});
  input.min_stages = 3;
  input.context = 2048;
  return input;
}

absl::StatusOr<SimulatedRun> SimulateOnThree(const SimulatedLoad& load) {
  const coordinator::PlanInput input = ThreeWorkers();
  const auto plan = coordinator::PlanCluster(input);
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return plan.status();
  return Simulate(input, *plan, load, [](uint64_t, double) {});
}

TEST(SimulatedLoadTest, IsWhatBenchWouldSend) {
  SimulatedLoad load;
  load.prompt_tokens = Lengths("lognormal(100,0.5)");
  load.answer_tokens = Lengths("8..32");
  load.shared_prefix = 64;
  load.requests = 200;
  load.rate = 20;
  load.seed = 7;
  const auto run = SimulateOnThree(load);
  ASSERT_TRUE(run.ok()) << run.status();

  WorkloadOptions options;
  options.prompt_tokens = load.prompt_tokens;
  options.answer_tokens = load.answer_tokens;
  options.rate = load.rate;
  options.seed = load.seed;
  options.source.ids = {1, 2, 3};
  Workload workload(options);
  uint64_t prompts = 0, answers = 0;
  double last_s = 0;
  for (int i = 0; i < 200; ++i) {
    const Arrival arrival = *workload.Next();
    prompts += arrival.request.ids().ids_size() + 64;
    answers += arrival.request.max_tokens();
    last_s = arrival.at_s;
  }
  const LoadReport& report = run->report;
  EXPECT_EQ(report.ok, 200u);
  EXPECT_EQ(report.prompt_tokens, prompts);
  EXPECT_EQ(report.answer_tokens, answers);
  EXPECT_EQ(report.between_tokens_s.count, answers - 200);
  EXPECT_GT(report.cached_tokens, 100u * 64) << "most find the prefix computed";
  EXPECT_GT(report.wall_s, last_s);
  // All tokens of an answer but the first come from steps that decode.
  EXPECT_EQ(run->timeline.decode_tokens(), answers - 200);
  EXPECT_EQ(run->timeline.prefill_tokens() + report.cached_tokens, prompts);
  ASSERT_EQ(run->timeline.stages().size(), 3u);
  for (const StageUse& stage : run->timeline.stages()) {
    EXPECT_GT(stage.utilisation, 0);
    EXPECT_LE(stage.utilisation, 1);
  }
}

TEST(SimulatedLoadTest, MustFitTheContext) {
  SimulatedLoad load;
  load.prompt_tokens = Lengths("2000");
  load.answer_tokens = Lengths("100");
  const auto run = SimulateOnThree(load);
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("do not fit the context of 2048"));
}

}  // namespace
}  // namespace tandem::cli
