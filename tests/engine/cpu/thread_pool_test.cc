#include "engine/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <set>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace tandem::engine {
namespace {

// Calls fn(part) for all parts, each on its own thread: none returns before all have begun.
void RunTogether(ThreadPool& pool, absl::FunctionRef<void(int)> fn) {
  std::atomic<int> begun{0};
  pool.Run([&](int part) {
    fn(part);
    begun.fetch_add(1);
    while (begun.load() < pool.size()) std::this_thread::yield();
  });
}

TEST(ThreadPoolTest, RunCallsEachPartOnce) {
  for (int size = 1; size <= 9; ++size) {
    ThreadPool pool(size, /*pin=*/false);
    ASSERT_EQ(pool.size(), size);
    for (int round = 0; round < 50; ++round) {
      std::vector<int> calls(size, 0);  // one writer each: a data race is a bug that TSan would show
      pool.Run([&](int part) { ++calls[part]; });
      EXPECT_EQ(calls, std::vector<int>(size, 1));
    }
  }
}

TEST(ThreadPoolTest, PartsRunAtTheSameTimeTheFirstOnTheCaller) {
  ThreadPool pool(4, false);
  std::vector<std::thread::id> ids(4);
  RunTogether(pool, [&](int part) { ids[part] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), 4u);
}

TEST(ThreadPoolTest, ParallelForVisitsEveryIndexOnce) {
  for (int size : {1, 2, 3, 5, 8}) {
    ThreadPool pool(size, false);
    for (int64_t count : {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 64, 100, 1000}) {
      for (int64_t grain : {1, 2, 4, 16, 100}) {
        std::vector<int> visits(count, 0);
        std::vector<int> calls(size, 0);
        pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int part) {
          ++calls[part];
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(count, 1)) << count << " by " << grain << " on " << size;
        for (const int c : calls) EXPECT_LE(c, 1);
      }
    }
  }
}

TEST(ThreadPoolTest, ParallelForSplitsEvenlyToOneGrain) {
  ThreadPool pool(3, false);
  std::vector<int64_t> lengths(3, 0);
  pool.ParallelFor(100, 4, [&](int64_t begin, int64_t end, int part) { lengths[part] = end - begin; });
  for (const int64_t length : lengths) EXPECT_LE(std::abs(length - 100 / 3), 4);
}

TEST(ThreadPoolTest, ParallelForSplitsByShares) {
  ThreadPool pool(3, false);
  pool.SetShares(std::vector<double>{2.0, 1.0, 1.0});
  std::vector<int64_t> lengths(3, 0);
  pool.ParallelFor(1000, 1, [&](int64_t begin, int64_t end, int part) { lengths[part] = end - begin; });
  EXPECT_EQ(lengths, (std::vector<int64_t>{500, 250, 250}));
  // However uneven they are, every index is visited once.
  pool.SetShares(std::vector<double>{1e-9, 1.0, 0.3});
  for (int64_t count : {1, 2, 3, 7, 1000}) {
    std::vector<int> visits(count, 0);
    pool.ParallelFor(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ++visits[i];
    });
    EXPECT_EQ(visits, std::vector<int>(count, 1)) << count;
  }
}

TEST(ThreadPoolTest, ParallelForOfNothingCallsNothing) {
  ThreadPool pool(2, false);
  pool.ParallelFor(0, 1, [](int64_t, int64_t, int) { FAIL(); });
  pool.ParallelFor(-5, 1, [](int64_t, int64_t, int) { FAIL(); });
}

// Processor time, not elapsed time: on a loaded machine a run may wait long for its turn.
TEST(ThreadPoolTest, ManyTinyRunsCostLittle) {
  constexpr int kRuns = 20000;
  constexpr double kSecondsPerRun = 200e-6;  // twice the spinning of two threads
  ThreadPool pool(2, false);
  int64_t sum[2] = {};
  const std::clock_t start = std::clock();
  for (int i = 0; i < kRuns; ++i) pool.Run([&](int part) { sum[part] += i; });
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_EQ(sum[0], int64_t{kRuns} * (kRuns - 1) / 2);
  EXPECT_EQ(sum[1], sum[0]);
  EXPECT_LT(seconds, kRuns * kSecondsPerRun);
}

// A helper that is late does not hold up the caller.
TEST(ThreadPoolTest, CallerTakesOverPartsThatNobodyBegan) {
  ThreadPool pool(4, false);
  std::atomic<int> on_caller{0};
  const std::thread::id caller = std::this_thread::get_id();
  for (int i = 0; i < 2000; ++i) {
    pool.Run([&](int) { on_caller.fetch_add(std::this_thread::get_id() == caller ? 1 : 0); });
  }
  // With parts of no length the caller is always quicker than some wake-up.
  EXPECT_GT(on_caller.load(), 2000);
}

// More threads than cores, several pools at once: nobody may spin so hard that the others starve.
TEST(ThreadPoolTest, SeveralPoolsShareTheCores) {
  std::vector<std::thread> owners;
  std::atomic<int64_t> total{0};
  for (int owner = 0; owner < 4; ++owner) {
    owners.emplace_back([&] {
      ThreadPool pool(3, false);
      for (int i = 0; i < 500; ++i) pool.Run([&](int) { total.fetch_add(1); });
    });
  }
  for (std::thread& owner : owners) owner.join();
  EXPECT_EQ(total.load(), 4 * 500 * 3);
}

TEST(ThreadPoolTest, DestructionWhileParkedOrNeverUsedReturns) {
  for (int i = 0; i < 100; ++i) ThreadPool unused(3, false);
  ThreadPool parked(3, false);
  parked.Run([](int) {});
  // A process of more pool threads than cores never spins, so the helpers are parked by the time these are gone.
  for (int i = 0; i < 10; ++i) ThreadPool other(8, false);
}

TEST(ThreadPoolTest, DefaultSizeIsOneThreadPerPhysicalCore) {
  EXPECT_GE(ThreadPool::PhysicalCores(), 1);
  EXPECT_LE(ThreadPool::PhysicalCores(), static_cast<int>(std::thread::hardware_concurrency()));
  ThreadPool pool(0, true);
  EXPECT_EQ(pool.size(), ThreadPool::PhysicalCores());
}

TEST(ThreadPoolTest, PinnedHelpersStayOnTheirOwnCore) {
  ThreadPool pool(0, true);
  if (pool.size() < 2) GTEST_SKIP() << "one core only";
  std::vector<cpu_set_t> masks(pool.size());
  RunTogether(pool, [&](int part) { sched_getaffinity(0, sizeof(cpu_set_t), &masks[part]); });
  for (int a = 1; a < pool.size(); ++a) {
    for (int b = a + 1; b < pool.size(); ++b) {
      cpu_set_t both;
      CPU_AND(&both, &masks[a], &masks[b]);
      EXPECT_EQ(CPU_COUNT(&both), 0) << a << " and " << b;
    }
    EXPECT_LT(CPU_COUNT(&masks[a]), CPU_COUNT(&masks[0]));
  }
}

// The affinity mask of the process bounds the cores that count.
TEST(ThreadPoolTest, PhysicalCoresFollowsTheAffinityMask) {
  std::thread([] {
    cpu_set_t mask;
    ASSERT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
    int first = 0;
    while (!CPU_ISSET(first, &mask)) ++first;
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    ASSERT_EQ(sched_setaffinity(0, sizeof(mask), &mask), 0);
    EXPECT_EQ(ThreadPool::PhysicalCores(), 1);
    ThreadPool pool(0, true);
    EXPECT_EQ(pool.size(), 1);
  }).join();
}

}  // namespace
}  // namespace tandem::engine
