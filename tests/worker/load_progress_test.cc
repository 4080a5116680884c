#include "worker/load_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace tandem::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class LoadProgressTest : public ::testing::Test {
 protected:
  LoadProgressMeter Make(bool terminal) {
    return LoadProgressMeter(
        "layers 0 to 3", terminal, [this](uint64_t done, uint64_t total) { reports_.emplace_back(done, total); },
        [this](const std::string& line) { lines_.push_back(line); });
  }
  static absl::Time At(int ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

  std::vector<std::pair<uint64_t, uint64_t>> reports_;
  std::vector<std::string> lines_;
};

TEST_F(LoadProgressTest, ReportsAtMostTenTimesASecondAndTheEnd) {
  LoadProgressMeter meter = Make(false);
  for (int ms = 0; ms <= 250; ++ms) meter.Update(ms, 1000, At(ms));
  meter.Update(1000, 1000, At(251));
  meter.Update(1000, 1000, At(500));
  EXPECT_THAT(reports_, ElementsAre(Pair(0, 1000), Pair(100, 1000), Pair(200, 1000), Pair(1000, 1000)));
}

TEST_F(LoadProgressTest, LogsALineForEveryTenth) {
  LoadProgressMeter meter = Make(false);
  for (int i = 0; i <= 1000; ++i) meter.Update(i * 1000, 1000000, At(20 * i));
  ASSERT_EQ(lines_.size(), 10u);
  EXPECT_EQ(lines_[0], "loading layers 0 to 3: 10 %, 0.1 of 1.0 MB");
  EXPECT_EQ(lines_[9], "loading layers 0 to 3: 100 %, 1.0 of 1.0 MB");
}

TEST_F(LoadProgressTest, LogsAtMostOneLineASecondAndTheEnd) {
  LoadProgressMeter meter = Make(false);
  for (int i = 0; i <= 1000; ++i) meter.Update(i * 1000, 1000000, At(i));
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_THAT(lines_[0], HasSubstr("10 %"));
  EXPECT_THAT(lines_[1], HasSubstr("100 %"));
}

TEST_F(LoadProgressTest, TerminalGetsABarThatEndsItsLine) {
  LoadProgressMeter meter = Make(true);
  meter.Update(0, 10000000, At(0));
  meter.Update(5000000, 10000000, At(1000));
  meter.Update(10000000, 10000000, At(2000));
  ASSERT_EQ(lines_.size(), 3u);
  EXPECT_THAT(lines_[1],
              HasSubstr("\rloading layers 0 to 3 [###############               ]  50 %  5.0 of 10.0 MB  5 MB/s"));
  EXPECT_EQ(lines_[1].find('\n'), std::string::npos);
  EXPECT_EQ(lines_[2].back(), '\n');
}

TEST_F(LoadProgressTest, NothingToLoadShowsNothing) {
  Make(true).Update(0, 0, At(0));
  EXPECT_TRUE(reports_.empty());
  EXPECT_TRUE(lines_.empty());
}

}  // namespace
}  // namespace tandem::worker
