#include "engine/sampling/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/cpu/canonical_math.h"

namespace tandem::engine {
namespace {

constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
constexpr double kLn2 = 0.693147180559945309417;

bool MoreProbable(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Keeps a logit that was finite finite.
float Clamp(float logit) {
  constexpr float kMost = std::numeric_limits<float>::max();
  return std::clamp(logit, -kMost, kMost);
}

// A uniform number inside (0, 1).
double Uniform(uint32_t random) { return (static_cast<double>(random) + 0.5) * kTwoToMinus32; }

double Square(double x) { return x * x; }

// e^x where the result only matters between e^-20 and e^20, the range CanonicalPow is exact in.
double BoundedExp(double x) { return CanonicalPow(2.718281828459045235, std::clamp(x, -20.0, 20.0)); }

}  // namespace

void Candidates::Apply(Filter filter, const SamplingParams& params, const DrawState& state, uint32_t random) {
  switch (filter) {
    case Filter::kPenalties:
      return Penalise(params, state.recent);
    case Filter::kDry:
      return SubtractDry(state.dry);
    case Filter::kTemperature:
      return DivideBy(params.temperature);
    case Filter::kTopNSigma:
      return KeepTopNSigma(params.top_n_sigma);
    case Filter::kTopK:
      return KeepTopK(static_cast<size_t>(params.top_k));
    case Filter::kTypicalP:
      return KeepTypical(params.typical_p);
    case Filter::kTopP:
      return KeepTopP(params.top_p);
    case Filter::kMinP:
      return KeepMinP(params.min_p);
    case Filter::kXtc:
      return ExcludeTopChoices(params, random);
  }
}

void Candidates::Penalise(const SamplingParams& params, std::span<const int32_t> recent) {
  if (!params.needs_history()) return;
  const size_t window = std::min(recent.size(), static_cast<size_t>(params.penalty_window));
  std::vector<int32_t> seen(recent.end() - static_cast<ptrdiff_t>(window), recent.end());
  std::sort(seen.begin(), seen.end());
  for (auto it = seen.begin(); it != seen.end();) {
    const auto end = std::upper_bound(it, seen.end(), *it);
    if (Candidate* candidate = Find(*it); candidate != nullptr) {
      float& logit = candidate->logit;
      logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      logit = Clamp(logit - (params.presence_penalty + params.frequency_penalty * static_cast<float>(end - it)));
    }
    it = end;
  }
  LogitsChanged();
}

void Candidates::SubtractDry(std::span<const std::pair<int32_t, float>> dry) {
  for (const auto& [token, penalty] : dry) {
    if (Candidate* candidate = Find(token); candidate != nullptr) candidate->logit = Clamp(candidate->logit - penalty);
  }
  LogitsChanged();
}

void Candidates::DivideBy(float temperature) {
  const float largest = LargestLogit();
  for (Candidate& c : items_) c.logit = Clamp((c.logit - largest) / temperature);
  LogitsChanged();
}

void Candidates::KeepTopNSigma(float n) {
  if (n == 0.0f) return;
  double sum = 0.0, squares = 0.0;
  for (const Candidate& c : items_) sum += static_cast<double>(c.logit);
  const double mean = sum / static_cast<double>(items_.size());
  for (const Candidate& c : items_) squares += Square(static_cast<double>(c.logit) - mean);
  const double sigma = std::sqrt(squares / static_cast<double>(items_.size()));
  const double least = static_cast<double>(LargestLogit()) - static_cast<double>(n) * sigma;
  std::erase_if(items_, [least](const Candidate& c) { return static_cast<double>(c.logit) < least; });
}

void Candidates::KeepTopK(size_t k) {
  if (k == 0 || k >= items_.size()) return;
  std::nth_element(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(k), items_.end(), MoreProbable);
  items_.resize(k);
  SortByToken();
}

// Locally typical sampling: Meister, Pimentel, Wiher, Cotterell, 2022 (arXiv:2202.00666).
void Candidates::KeepTypical(float share) {
  if (share >= 1.0f) return;
  Weigh();
  const double total = TotalWeight();
  const double log_total = CanonicalLog(total);
  const double largest = static_cast<double>(LargestLogit());
  const auto surprise = [&](const Candidate& c) { return log_total - (static_cast<double>(c.logit) - largest); };
  double entropy = 0.0;
  for (const Candidate& c : items_) {
    if (c.weight > 0.0f) entropy += static_cast<double>(c.weight) / total * surprise(c);
  }
  struct Ranked {
    double distance;
    Candidate candidate;
  };
  std::vector<Ranked> ranked;
  ranked.reserve(items_.size());
  for (const Candidate& c : items_) ranked.push_back({std::fabs(surprise(c) - entropy), c});
  std::sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return a.distance < b.distance || (a.distance == b.distance && a.candidate.token < b.candidate.token);
  });
  items_.clear();
  double sum = 0.0;
  for (const Ranked& r : ranked) {
    items_.push_back(r.candidate);
    sum += static_cast<double>(r.candidate.weight);
    if (sum >= static_cast<double>(share) * total) break;
  }
  SortByToken();
}

void Candidates::KeepTopP(float share) {
  if (share >= 1.0f) return;
  Weigh();
  const double target = static_cast<double>(share) * TotalWeight();
  // Few tokens reach the target as a rule: sort a short start of the list, and twice as much while it is not enough.
  constexpr size_t kFirstSort = 64;
  double sum = 0.0;
  size_t kept = 0;
  for (size_t sorted = kFirstSort; kept < items_.size() && sum < target; sorted *= 2) {
    const size_t limit = std::min(sorted, items_.size());
    std::partial_sort(items_.begin() + static_cast<ptrdiff_t>(kept), items_.begin() + static_cast<ptrdiff_t>(limit),
                      items_.end(), MoreProbable);
    while (kept < limit && sum < target) sum += static_cast<double>(items_[kept++].weight);
  }
  items_.resize(std::max<size_t>(kept, 1));
  SortByToken();
}

void Candidates::KeepMinP(float share) {
  if (share == 0.0f) return;
  Weigh();
  float most = 0.0f;
  for (const Candidate& c : items_) most = std::max(most, c.weight);
  std::erase_if(items_, [least = share * most](const Candidate& c) { return c.weight < least; });
}

void Candidates::ExcludeTopChoices(const SamplingParams& params, uint32_t random) {
  if (Uniform(random) >= static_cast<double>(params.xtc_probability)) return;
  Weigh();
  const double threshold = static_cast<double>(params.xtc_threshold) * TotalWeight();
  const auto is_top = [threshold](const Candidate& c) { return static_cast<double>(c.weight) >= threshold; };
  const Candidate* least = nullptr;
  for (const Candidate& c : items_) {
    if (is_top(c) && (least == nullptr || MoreProbable(*least, c))) least = &c;
  }
  if (least == nullptr) return;
  std::erase_if(items_, [&, kept = least->token](const Candidate& c) { return is_top(c) && c.token != kept; });
}

// Mirostat: Basu, Ramachandran, Keskar, Varshney, 2021 (arXiv:2007.14966).
void Candidates::CutMirostat(int32_t version, float mu, int32_t vocab_size) {
  Weigh();
  if (version == 2) {
    if (mu >= 28.0f) return;  // 2^-28 of a vocabulary is nobody
    const double least = TotalWeight() * CanonicalPow(2.0, -std::clamp(static_cast<double>(mu), 0.0, 28.0));
    const int32_t best = MostProbable();
    std::erase_if(items_, [&](const Candidate& c) { return static_cast<double>(c.weight) < least && c.token != best; });
    return;
  }
  // The Zipf exponent s by least squares over the hundred most probable tokens: log(p_i / p_i+1) = s * log((i + 2) /
  // (i + 1)).
  constexpr size_t kTokensOfTheEstimate = 100;
  std::vector<Candidate> top = items_;
  const size_t count = std::min(kTokensOfTheEstimate, top.size());
  std::partial_sort(top.begin(), top.begin() + static_cast<ptrdiff_t>(count), top.end(), MoreProbable);
  double products = 0.0, squares = 0.0;
  for (size_t i = 0; i + 1 < count; ++i) {
    const double t = CanonicalLog(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    products += t * (static_cast<double>(top[i].logit) - static_cast<double>(top[i + 1].logit));
    squares += Square(t);
  }
  const double s = squares > 0.0 ? products / squares : 0.0;
  const double log_keep_flat = std::clamp(static_cast<double>(mu), 0.0, 28.0) * kLn2;
  double log_k = log_keep_flat;  // s = 0: all are equally probable, and k tokens have log2(k) bits
  if (s > 1e-3) {
    const double epsilon = s - 1.0;
    const double log_n = CanonicalLog(static_cast<double>(std::max(vocab_size, 2)));
    // (1 - N^-epsilon) / epsilon, which tends to log N.
    const double mass = std::fabs(epsilon) < 1e-6 ? log_n : (1.0 - BoundedExp(-epsilon * log_n)) / epsilon;
    log_k = (log_keep_flat - CanonicalLog(mass)) / s;
  }
  KeepTopK(static_cast<size_t>(std::max(1.0, std::floor(BoundedExp(log_k) + 0.5))));
}

int32_t Candidates::MostProbable() const {
  return std::max_element(items_.begin(), items_.end(),
                          [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; })
      ->token;
}

int32_t Candidates::Draw(uint32_t random) {
  Weigh();
  const double target = Uniform(random) * TotalWeight();
  double sum = 0.0;
  int32_t last = items_.front().token;
  for (const Candidate& c : items_) {
    if (c.weight == 0.0f) continue;
    last = c.token;
    sum += static_cast<double>(c.weight);
    if (sum > target) break;
  }
  return last;
}

double Candidates::SurpriseBits(int32_t token) {
  Weigh();
  // What was drawn has a weight, so the logarithm is finite.
  return CanonicalLog(TotalWeight() / static_cast<double>(Find(token)->weight)) / kLn2;
}

Candidate* Candidates::Find(int32_t token) {
  const auto it = std::lower_bound(items_.begin(), items_.end(), token,
                                   [](const Candidate& c, int32_t wanted) { return c.token < wanted; });
  return it != items_.end() && it->token == token ? &*it : nullptr;
}

float Candidates::LargestLogit() const {
  float largest = -std::numeric_limits<float>::infinity();
  for (const Candidate& c : items_) largest = std::max(largest, c.logit);
  return largest;
}

void Candidates::Weigh() {
  if (weighed_) return;
  const float largest = LargestLogit();
  for (Candidate& c : items_) c.weight = CanonicalExp(c.logit - largest);
  weighed_ = true;
}

double Candidates::TotalWeight() const {
  double total = 0.0;
  for (const Candidate& c : items_) total += static_cast<double>(c.weight);
  return total;
}

void Candidates::SortByToken() {
  std::sort(items_.begin(), items_.end(), [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
}

}  // namespace tandem::engine
