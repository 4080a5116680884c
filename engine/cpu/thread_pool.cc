#include "engine/cpu/thread_pool.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

namespace tandem::engine {
namespace {

// How long a waiting thread spins before it parks: about what waking a parked thread costs.
constexpr std::chrono::microseconds kSpinTime{50};
constexpr int kPausesPerClockRead = 64;

// Threads of all pools alive in this process. When they outnumber the cores, a spinning thread only keeps a working one
// from running, so nobody spins.
std::atomic<int> g_pool_threads{0};

// A physical core: its logical CPUs, and its rank among the kinds of cores of the machine, 0 for the slowest.
struct Core {
  cpu_set_t cpus;
  int kind = 0;
};

// The physical cores of the machine, fastest kind first; empty if hwloc cannot tell.
std::vector<Core> ReadCores() {
  std::vector<Core> cores;
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology) != 0) return cores;
  if (hwloc_topology_load(topology) == 0) {
    const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    for (int i = 0; i < count; ++i) {
      const hwloc_obj_t object = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, i);
      Core core;
      CPU_ZERO(&core.cpus);
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (hwloc_bitmap_isset(object->cpuset, cpu)) CPU_SET(cpu, &core.cpus);
      }
      core.kind = std::max(0, hwloc_cpukinds_get_by_cpuset(topology, object->cpuset, 0));  // -1: not known
      cores.push_back(core);
    }
  }
  hwloc_topology_destroy(topology);
  std::stable_sort(cores.begin(), cores.end(), [](const Core& a, const Core& b) { return a.kind > b.kind; });
  return cores;
}

// The same, as far as the calling thread may run on them.
std::vector<Core> AllowedCores() {
  // Reading the topology takes some 8 ms, so it is done once.
  static const std::vector<Core>& machine = *new std::vector<Core>(ReadCores());
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<Core> cores;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return cores;
  for (Core core : machine) {
    CPU_AND(&core.cpus, &core.cpus, &allowed);
    if (CPU_COUNT(&core.cpus) > 0) cores.push_back(core);
  }
  return cores;
}

// Rounds of some arithmetic that the calling thread gets done in a few milliseconds.
double CountRounds() {
  constexpr std::chrono::milliseconds kTime{4};
  float values[256];
  std::fill(std::begin(values), std::end(values), 1.0f);
  double rounds = 0;
  for (const auto start = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - start < kTime;
       ++rounds) {
    for (int i = 0; i < 32; ++i) {
      for (float& value : values) value = value * 0.999f + 0.001f;
      __asm__ volatile("" : : "r"(values) : "memory");  // each round is wanted
    }
  }
  return rounds;
}

// Tells the processor that this is a spin, so that it saves power and lends its units to the other hyperthread.
inline void SpinPause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // `yield` does nothing on most cores; this waits some ten cycles
#endif
}

// Returns when `value` differs from `old`: after a short spin, if `spin`, parked in the kernel.
uint32_t WaitForChange(const std::atomic<uint32_t>& value, uint32_t old, bool spin) {
  if (spin) {
    const auto give_up = std::chrono::steady_clock::now() + kSpinTime;
    do {
      for (int i = 0; i < kPausesPerClockRead; ++i) {
        const uint32_t now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        SpinPause();
      }
    } while (std::chrono::steady_clock::now() < give_up);
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

// One round: the caller stores `task`, sets `running` and raises `round`. Helper i claims part i by moving claimed[i]
// to the round's number, runs it and lowers `running`; the caller runs part 0, then claims and runs the parts that no
// helper has begun, then waits for the others. So a helper that gets no processor delays nobody. Every part is claimed
// before the next round starts, so a late helper finds its claim taken and touches nothing. A null task ends the
// helpers.
struct ThreadPool::State {
  static constexpr uint32_t kWhole = 1 << 16;
  struct alignas(64) Claim {
    std::atomic<uint32_t> round{0};
  };

  int cores = 1;
  const absl::FunctionRef<void(int)>* task = nullptr;  // published by `round`
  alignas(64) std::atomic<uint32_t> round{0};
  alignas(64) std::atomic<uint32_t> running{0};  // parts 1.. that are not finished
  std::vector<Claim> claimed;                    // by part
  std::vector<uint32_t> ends;                    // [part]: where the shares of parts 0 .. part end, of kWhole
  std::vector<std::thread> helpers;

  bool MaySpin() const { return g_pool_threads.load(std::memory_order_relaxed) <= cores; }

  void Start(const absl::FunctionRef<void(int)>* next) {
    task = next;
    running.store(static_cast<uint32_t>(helpers.size()), std::memory_order_relaxed);
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
  }

  // True for the one thread that is to run `part` in round `now`.
  bool TryClaim(int part, uint32_t now) {
    uint32_t previous = now - 1;
    return claimed[part].round.compare_exchange_strong(previous, now, std::memory_order_acq_rel);
  }

  void Help(int part) {
    uint32_t seen = 0;
    while (true) {
      seen = WaitForChange(round, seen, MaySpin());
      if (!TryClaim(part, seen)) continue;
      if (task == nullptr) return;
      (*task)(part);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }

  // The caller's share after part 0.
  void FinishRound() {
    const uint32_t now = round.load(std::memory_order_relaxed);
    for (int part = 1; part <= static_cast<int>(helpers.size()); ++part) {
      if (!TryClaim(part, now)) continue;
      (*task)(part);
      running.fetch_sub(1, std::memory_order_acq_rel);
    }
    uint32_t left = running.load(std::memory_order_acquire);
    while (left != 0) left = WaitForChange(running, left, MaySpin());
  }
};

ThreadPool::ThreadPool(int threads, bool pin) : state_(std::make_unique<State>()) {
  const std::vector<Core> cores = AllowedCores();
  state_->cores = std::max<int>(1, static_cast<int>(cores.size()));
  size_ = threads > 0 ? threads : state_->cores;
  g_pool_threads.fetch_add(size_, std::memory_order_relaxed);
  state_->claimed = std::vector<State::Claim>(size_);
  state_->helpers.reserve(size_ - 1);
  // More threads than cores are left to the scheduler.
  const bool place = pin && size_ <= static_cast<int>(cores.size());
  for (int i = 1; i < size_; ++i) {
    state_->helpers.emplace_back([state = state_.get(), i] { state->Help(i); });
    // The first core is left to the caller.
    if (place) pthread_setaffinity_np(state_->helpers.back().native_handle(), sizeof(cpu_set_t), &cores[i].cpus);
  }
  std::vector<double> speeds(size_, 1.0);
  SetShares(speeds);
  if (!place || cores[0].kind == cores[size_ - 1].kind) return;
  Run([&](int part) { speeds[part] = CountRounds(); });
  SetShares(speeds);
}

void ThreadPool::SetShares(std::span<const double> speeds) {
  const double whole = std::accumulate(speeds.begin(), speeds.end(), 0.0);
  state_->ends.clear();
  double sum = 0;
  for (const double speed : speeds) {
    sum += speed;
    state_->ends.push_back(static_cast<uint32_t>(std::lround(sum / whole * State::kWhole)));
  }
}

ThreadPool::~ThreadPool() {
  state_->Start(nullptr);
  for (std::thread& helper : state_->helpers) helper.join();
  g_pool_threads.fetch_sub(size_, std::memory_order_relaxed);
}

void ThreadPool::Run(absl::FunctionRef<void(int)> fn) {
  if (size_ == 1) {
    fn(0);
    return;
  }
  state_->Start(&fn);
  fn(0);
  state_->FinishRound();
}

void ThreadPool::ParallelFor(int64_t count, int64_t grain,
                             absl::FunctionRef<void(int64_t begin, int64_t end, int part)> fn) {
  if (count <= 0) return;
  const int64_t units = (count + grain - 1) / grain;
  if (size_ == 1 || units == 1) {
    fn(0, count, 0);
    return;
  }
  Run([&](int part) {
    const auto share_end = [&](int last) { return last < 0 ? 0 : units * state_->ends[last] / State::kWhole; };
    const int64_t begin = std::min(count, share_end(part - 1) * grain);
    const int64_t end = std::min(count, share_end(part) * grain);
    if (begin < end) fn(begin, end, part);
  });
}

int ThreadPool::PhysicalCores() { return std::max<int>(1, static_cast<int>(AllowedCores().size())); }

}  // namespace tandem::engine
