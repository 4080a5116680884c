// The pages that sequences share: the pool, the index, and what they give to a scheduler.
#include "coordinator/scheduler/prefix_index.h"

#include "tests/coordinator/scheduler_fixture.h"

namespace tandem::coordinator {
namespace {

TEST(PagePoolTest, PageIsFreeUsedOrIdle) {
  PagePool pool(2);
  const uint32_t page = *pool.Take();
  EXPECT_EQ(pool.used(), 1);
  pool.Use(page);
  pool.Drop(page);
  EXPECT_EQ(pool.used(), 1);
  pool.Keep(page);
  pool.Drop(page);
  EXPECT_EQ(pool.idle(), 1);
  EXPECT_EQ(pool.free(), 1);
  pool.Use(page);
  EXPECT_EQ(pool.used(), 1);
  EXPECT_EQ(pool.idle(), 0);
  pool.Forget(page);
  pool.Drop(page);
  EXPECT_EQ(pool.free(), 2);
  pool.Take();
  pool.Take();
  EXPECT_EQ(pool.Take(), std::nullopt);
}

class PrefixIndexTest : public ::testing::Test {
 protected:
  // Indexes `tokens`, whole pages of 2, and releases the pages. Returns the last node.
  PrefixIndex::Node* Add(const std::vector<int32_t>& tokens, const std::string& domain = "") {
    PrefixIndex::Node* node = nullptr;
    std::vector<uint32_t> taken;
    for (size_t i = 0; i < tokens.size(); i += 2) {
      taken.push_back(*pool_.Take());
      node = index_.Add(domain, node, std::span(tokens).subspan(i, 2), taken.back());
    }
    for (uint32_t page : taken) pool_.Drop(page);
    return node;
  }
  std::vector<uint32_t> Find(const std::vector<int32_t>& tokens, const std::string& domain = "") {
    match_ = index_.Find(domain, nullptr, tokens);
    std::vector<uint32_t> pages;
    for (const PrefixIndex::Node* node : match_.nodes) pages.push_back(node->page());
    return pages;
  }

  PagePool pool_{8};
  PrefixIndex index_{2, &pool_};
  PrefixIndex::Match match_;
};

TEST_F(PrefixIndexTest, FindsTheLongestBeginningInFullPages) {
  Add({1, 2, 3, 4});  // pages 0, 1
  Add({1, 2, 5, 6});  // 2 is given back at once: {1, 2} is known; {5, 6} in 3
  EXPECT_THAT(Find({1, 2, 3, 4, 9}), ElementsAre(0, 1));
  EXPECT_THAT(Find({1, 2, 5, 6, 9}), ElementsAre(0, 3));
  EXPECT_THAT(Find({1, 2, 7}), ElementsAre(0));
  EXPECT_THAT(Find({2, 1, 3, 4}), IsEmpty());
  EXPECT_THAT(Find({1, 2, 3, 4, 9}, "adapter"), IsEmpty()) << "texts of another domain";
}

TEST_F(PrefixIndexTest, SomethingIsAlwaysLeftToCompute) {
  Add({1, 2, 3, 4});
  EXPECT_THAT(Find({1, 2, 3, 4}), ElementsAre(0));
  EXPECT_EQ(match_.shared_tokens, 1) << "of the last page but its last token";
  EXPECT_THAT(Find({1, 2}), IsEmpty());
  EXPECT_EQ(match_.shared_tokens, 1);
  EXPECT_THAT(Find({1}), IsEmpty());
  EXPECT_EQ(match_.shared_tokens, 0);
}

TEST_F(PrefixIndexTest, FindsThePageThatSharesMostOfTheNextTokens) {
  PagePool pool(8);
  PrefixIndex index(4, &pool);
  for (const std::vector<int32_t>& tokens : {std::vector<int32_t>{1, 2, 3, 4}, {1, 2, 8, 9}, {5, 6, 7, 8}}) {
    index.Add("", nullptr, tokens, *pool.Take());
  }
  const auto shared = [&](const std::vector<int32_t>& tokens) {
    const PrefixIndex::Match match = index.Find("", nullptr, tokens);
    return std::pair(match.shared_page, match.shared_tokens);
  };
  EXPECT_EQ(shared({1, 2, 3, 9, 9}), std::pair(0u, 3));
  EXPECT_EQ(shared({1, 2, 8, 8, 9}), std::pair(1u, 3));
  EXPECT_EQ(shared({1, 2, 8, 1, 1}), std::pair(1u, 3));
  EXPECT_EQ(shared({5, 9, 9, 9, 9}), std::pair(2u, 1));
  EXPECT_EQ(shared({9, 9, 9, 9, 9}).second, 0);
  EXPECT_EQ(shared({0, 9, 9, 9, 9}).second, 0);
}

TEST_F(PrefixIndexTest, GivesUpTheLeastRecentlyUsedPageThatNothingFollows) {
  PrefixIndex::Node* const first = Add({1, 2, 3, 4});  // pages 0, 1
  Add({5, 6});                                         // page 2
  index_.Touch(first);
  EXPECT_TRUE(index_.EvictOne());
  EXPECT_THAT(Find({5, 6, 9}), IsEmpty());
  EXPECT_TRUE(index_.EvictOne());
  EXPECT_THAT(Find({1, 2, 3, 4, 9}), ElementsAre(0)) << "the end of a text goes before its beginning";
  EXPECT_TRUE(index_.EvictOne());
  EXPECT_FALSE(index_.EvictOne());
  EXPECT_EQ(pool_.free(), 8);
  EXPECT_EQ(index_.evictions(), 3);
}

TEST_F(PrefixIndexTest, PagesInUseStay) {
  PrefixIndex::Node* const node = Add({1, 2});
  pool_.Use(node->page());
  Add({5, 6});
  EXPECT_TRUE(index_.EvictOne());
  EXPECT_FALSE(index_.EvictOne());
  EXPECT_THAT(Find({1, 2, 9}), ElementsAre(node->page()));
}

// A scheduler whose sequences begin alike.
class SharingTest : public SchedulerTest {
 protected:
  // Tokens of prompts that were computed, not read.
  int32_t Prefilled() const {
    int32_t tokens = 0;
    for (const StepPlan& plan : plans_) {
      for (const PlannedSlice& slice : plan.slices) tokens += slice.decode ? 0 : slice.count;
    }
    return tokens;
  }
  static std::vector<int32_t> Join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
};

TEST_F(SharingTest, SharedBeginningIsComputedOnce) {
  Start(Config());
  const std::vector<int32_t> system = Prompt(1, 160);
  ASSERT_TRUE(Add(1, Join(system, {1, 2, 3}), 5).ok());
  RunToEnd();
  plans_.clear();
  ASSERT_TRUE(Add(2, Join(system, {7, 8}), 5).ok());
  PlanAll();
  EXPECT_EQ(scheduler_->Find(2)->cached_tokens, 160);
  RunToEnd();
  EXPECT_EQ(Prefilled(), 2);
  EXPECT_EQ(results_[2], testing::Continue(prompts_[2], 5));
}

TEST_F(SharingTest, PromptsThatComeTogetherComputeTheirBeginningOnce) {
  for (int32_t stages : {1, 3}) {
    plans_.clear();
    Start(Config(stages));
    const std::vector<int32_t> system = Prompt(1, 640);
    for (uint64_t id = 1; id <= 4; ++id) {
      SequenceSpec spec = Spec(id, Join(system, {static_cast<int32_t>(id), 2, 3}), 5);
      spec.client = std::to_string(id);
      ASSERT_TRUE(Add(spec).ok());
    }
    RunToEnd();
    EXPECT_EQ(Prefilled(), 640 + 4 * 3);
    for (uint64_t id = 1; id <= 4; ++id) EXPECT_EQ(results_[id], testing::Continue(prompts_[id], 5));
  }
}

TEST_F(SharingTest, ConversationGoesOnFromItsAnswer) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 50), 100).ok());
  RunToEnd();
  plans_.clear();
  ASSERT_TRUE(Add(2, Join(Join(Prompt(1, 50), results_[1]), {4, 5, 6}), 5).ok());
  RunToEnd();
  EXPECT_EQ(Prefilled(), 150 % 16 + 3) << "all but the page that was not full";
  EXPECT_EQ(results_[2], testing::Continue(prompts_[2], 5));
}

TEST_F(SharingTest, PageThatBeginsAlikeIsCopiedAndWrittenOn) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 64), 5).ok());
  RunToEnd();
  plans_.clear();
  std::vector<int32_t> other(prompts_[1].begin(), prompts_[1].begin() + 42);
  ASSERT_TRUE(Add(2, Join(other, {9, 9, 9, 9}), 30).ok());
  ASSERT_TRUE(Add(3, Join(prompts_[1], {9}), 30).ok());
  PlanAll();
  ASSERT_EQ(plans_[0].copies.size(), 1u);
  EXPECT_EQ(plans_[0].copies[0].to, scheduler_->Find(2)->pages[2]);
  RunToEnd();
  EXPECT_EQ(Prefilled(), 4 + 1);
  EXPECT_EQ(results_[2], testing::Continue(prompts_[2], 30));
  EXPECT_EQ(results_[3], testing::Continue(prompts_[3], 30)) << "the page copied from is as it was";
}

TEST_F(SharingTest, IdlePagesMakeRoomOldestFirst) {
  Start(Config(1, 20));
  for (uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE(Add(id, Prompt(static_cast<int32_t>(id), 90), 5).ok());
    RunToEnd();
  }
  EXPECT_GE(scheduler_->pages_idle(), 15);
  plans_.clear();
  ASSERT_TRUE(Add(5, Prompt(4, 90), 5).ok());
  RunToEnd();
  EXPECT_EQ(Prefilled(), 90 % 16) << "the latest is still there";
  plans_.clear();
  ASSERT_TRUE(Add(6, Prompt(1, 90), 5).ok());
  RunToEnd();
  EXPECT_GT(Prefilled(), 16) << "of the first, the end at least is gone";
  EXPECT_EQ(results_[6], testing::Continue(prompts_[6], 5));
}

TEST_F(SharingTest, DomainsAndPassesOverEveryTokenShareNothing) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 64), 1).ok());
  RunToEnd();
  plans_.clear();
  SequenceSpec adapted = Spec(2, Prompt(1, 64), 1);
  adapted.domain = "0*1";
  ASSERT_TRUE(Add(adapted).ok());
  RunToEnd();
  EXPECT_EQ(Prefilled(), 64);
  SequenceSpec sum = Spec(3, Prompt(1, 64), 0);
  sum.output = engine::SliceOutput::kStateSum;
  ASSERT_TRUE(Add(sum).ok());
  RunToEnd();
  EXPECT_EQ(Prefilled(), 2 * 64);
}

TEST_F(SharingTest, NewPipelineKnowsNothing) {
  Start(Config());
  ASSERT_TRUE(Add(1, Prompt(1, 64), 1).ok());
  RunToEnd();
  scheduler_->Halt(/*interruption=*/true);
  scheduler_->Reset(config_);
  cache_.emplace(config_.page_tokens);
  sent_.clear();
  plans_.clear();
  ASSERT_TRUE(Add(2, Prompt(1, 64), 1).ok());
  RunToEnd();
  EXPECT_EQ(Prefilled(), 64);
}

}  // namespace
}  // namespace tandem::coordinator
