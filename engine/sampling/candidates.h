// The tokens that may still be drawn, and the filters that thin them out. Internal to the sampler.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampling/sampler.h"

namespace tandem::engine {

struct Candidate {
  int32_t token;
  float logit;
  float weight;  // its probability but for a common factor: exp of the distance to the largest logit
};

// Always in ascending order of tokens, which fixes how weights are summed; never empty once made from a list that is
// not. Thread-compatible.
class Candidates {
 public:
  // `items` by ascending token, logits finite; weights are filled in here when needed.
  explicit Candidates(std::vector<Candidate> items) : items_(std::move(items)) {}

  // Applies one filter; those whose parameters switch them off change nothing. `random`: 32 bits, for XTC.
  void Apply(Filter filter, const SamplingParams& params, const DrawState& state, uint32_t random);
  // The mirostat cut, `version` 1 or 2. `vocab_size` is the N of version 1's estimate.
  void CutMirostat(int32_t version, float mu, int32_t vocab_size);

  // The largest logit; the lowest id among equals.
  int32_t MostProbable() const;
  int32_t Draw(uint32_t random);
  // -log2 of the token's share of the weights left.
  double SurpriseBits(int32_t token);

  const std::vector<Candidate>& items() const { return items_; }

 private:
  void Penalise(const SamplingParams& params, std::span<const int32_t> recent);
  void SubtractDry(std::span<const std::pair<int32_t, float>> dry);
  void DivideBy(float temperature);
  void KeepTopNSigma(float n);
  void KeepTopK(size_t k);
  void KeepTypical(float share);
  void KeepTopP(float share);
  void KeepMinP(float share);
  void ExcludeTopChoices(const SamplingParams& params, uint32_t random);

  Candidate* Find(int32_t token);  // null if it is not left
  float LargestLogit() const;
  void Weigh();  // fills in the weights if logits changed
  double TotalWeight() const;
  void SortByToken();
  void LogitsChanged() { weighed_ = false; }

  std::vector<Candidate> items_;
  bool weighed_ = false;
};

}  // namespace tandem::engine
