#include "coordinator/gateway/stop_matcher.h"

#include <random>

#include "gtest/gtest.h"

namespace tandem::coordinator {
namespace {

// All that comes out of a matcher, the text cut into pieces at `borders`.
std::string Feed(const std::vector<std::string>& stops, const std::string& text, std::vector<size_t> borders,
                 bool* found) {
  StopMatcher matcher(stops);
  std::string out;
  size_t begin = 0;
  borders.push_back(text.size());
  for (size_t border : borders) {
    out += matcher.Push(absl::string_view(text).substr(begin, border - begin));
    begin = border;
  }
  *found = matcher.found();
  return out + matcher.Flush();
}

TEST(StopMatcherTest, WithoutStopStringsTextPassesAtOnce) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("hello"), "hello");
  EXPECT_FALSE(matcher.found());
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, EndsBeforeTheStopStringAcrossPieces) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.Push("go S"), "go ");
  EXPECT_EQ(matcher.Push("TO"), "");
  EXPECT_FALSE(matcher.found());
  EXPECT_EQ(matcher.Push("P and on"), "");
  EXPECT_TRUE(matcher.found());
  EXPECT_EQ(matcher.Push("more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, HeldTextIsReleasedWhenItBeginsNoStopString) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.Push("ST"), "");
  EXPECT_EQ(matcher.Push("AR"), "STAR");
  EXPECT_EQ(matcher.Push("S"), "");
  EXPECT_EQ(matcher.Flush(), "S");
}

TEST(StopMatcherTest, OverlappingBeginningsAreKept) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.Push("aa"), "");
  EXPECT_EQ(matcher.Push("a"), "a");
  EXPECT_EQ(matcher.Push("b"), "");
  EXPECT_TRUE(matcher.found());
}

TEST(StopMatcherTest, TheStringCompleteFirstCounts) {
  bool found = false;
  EXPECT_EQ(Feed({"abcd", "bc"}, "xabcd", {}, &found), "xa");
  EXPECT_EQ(Feed({"abcd", "bc"}, "xabcd", {3}, &found), "xa");
  // Of two that end together the longer one.
  EXPECT_EQ(Feed({"d", "bcd"}, "xabcd", {}, &found), "xa");
}

TEST(StopMatcherTest, ResultDoesNotDependOnThePieces) {
  std::mt19937 random(3);
  const std::vector<std::string> stops = {"aba", "bb", "caab"};
  for (int trial = 0; trial < 500; ++trial) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += static_cast<char>('a' + random() % 3);
    bool found_whole = false, found_pieces = false;
    const std::string whole = Feed(stops, text, {}, &found_whole);
    std::vector<size_t> borders;
    for (size_t i = 1; i < text.size(); ++i) {
      if (random() % 2 == 0) borders.push_back(i);
    }
    EXPECT_EQ(Feed(stops, text, borders, &found_pieces), whole) << text;
    EXPECT_EQ(found_pieces, found_whole) << text;
    EXPECT_EQ(whole == text, !found_whole) << text;
  }
}

}  // namespace
}  // namespace tandem::coordinator
