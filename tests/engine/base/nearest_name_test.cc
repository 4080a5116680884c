#include "engine/base/nearest_name.h"

#include <gtest/gtest.h>

#include <string>

namespace tandem::engine {
namespace {

TEST(NearestNameTest, CountsEdits) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("", "ab"), 2u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("flaw", "lawn"), 2u);
}

TEST(NearestNameTest, TakesTheFirstOfTheNearest) {
  EXPECT_EQ(NearestName("lama", {"gemma", "llama", "lima"}), "llama");
  EXPECT_EQ(NearestName("x", {}), "");
  EXPECT_EQ(NearestName(std::string(1 << 20, 'q'), {"a", "q"}), "q");  // looks at the start of a long name
}

}  // namespace
}  // namespace tandem::engine
