#include "engine/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

namespace tandem::engine {
namespace {

TEST(ThreadPoolTest, RunCallsEachThreadOnce) {
  for (int size = 1; size <= 9; ++size) {
    ThreadPool pool(size, /*pin=*/false);
    ASSERT_EQ(pool.size(), size);
    for (int round = 0; round < 50; ++round) {
      std::vector<int> calls(size, 0);  // one writer each: a data race is a bug that TSan would show
      pool.Run([&](int thread) { ++calls[thread]; });
      EXPECT_EQ(calls, std::vector<int>(size, 1));
    }
  }
}

TEST(ThreadPoolTest, RunUsesDistinctThreadsAndTheCallersAsFirst) {
  ThreadPool pool(4, false);
  std::vector<std::thread::id> ids(4);
  pool.Run([&](int thread) { ids[thread] = std::this_thread::get_id(); });
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
        pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int thread) {
          ++calls[thread];
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
  pool.ParallelFor(100, 4, [&](int64_t begin, int64_t end, int thread) { lengths[thread] = end - begin; });
  for (const int64_t length : lengths) EXPECT_LE(std::abs(length - 100 / 3), 4);
}

TEST(ThreadPoolTest, ParallelForOfNothingCallsNothing) {
  ThreadPool pool(2, false);
  pool.ParallelFor(0, 1, [](int64_t, int64_t, int) { FAIL(); });
  pool.ParallelFor(-5, 1, [](int64_t, int64_t, int) { FAIL(); });
}

TEST(ThreadPoolTest, ManyTinyRunsFinishQuickly) {
  ThreadPool pool(2, false);
  int64_t sum[2] = {};
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100000; ++i) pool.Run([&](int thread) { sum[thread] += i; });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(sum[0], 4999950000);
  EXPECT_EQ(sum[1], 4999950000);
  // Parking each time would take about 10 s on a quiet machine; the bound is wide for a loaded one.
  EXPECT_LT(took.count(), 60.0);
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
  pool.Run([&](int thread) { sched_getaffinity(0, sizeof(cpu_set_t), &masks[thread]); });
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
