// The merging tokenizers against the plainest statement of what they compute: join the best pair of neighbours, look
// again at all of them, until none fits.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "absl/strings/str_replace.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "tests/engine/tokenizer/vocab_builder.h"

namespace tandem::engine {
namespace {

const std::string kSpace = "\xE2\x96\x81";

std::vector<std::string> Characters(absl::string_view text) {
  std::vector<std::string> characters;
  while (!text.empty()) {
    const size_t bytes = NextUtf8(text).bytes;
    characters.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return characters;
}

// `better(joined, best so far)`: where the joined spelling wins. Of equals the leftmost stays.
template <typename Fits, typename Better>
std::vector<std::string> MergeAll(std::vector<std::string> parts, Fits fits, Better better) {
  while (true) {
    size_t best = parts.size();
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      if (!fits(parts[i], parts[i + 1])) continue;
      if (best == parts.size() || better(i, best, parts)) best = i;
    }
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

// A text of few different characters, so that much of it merges; some bytes are no UTF-8.
std::string RandomText(std::mt19937& random, size_t max_parts) {
  static const char* const kParts[] = {
      "a", "b", "c", " ", "  ", ".", "\xC3\xA9", "\xE2\x80\x99", "\xE2\x96\x81", "\xFF", "\xE2\x96"};
  std::string text;
  for (size_t parts = random() % max_parts; parts > 0; --parts) {
    // The rarer the stranger.
    text += kParts[std::min(random() % std::size(kParts), random() % std::size(kParts))];
  }
  return text;
}

TEST(SpmRestatementTest, RandomVocabulariesAndTexts) {
  std::mt19937 random(7);
  size_t merged = 0, tokens = 0;
  for (int round = 0; round < 60; ++round) {
    VocabBuilder builder("llama");
    builder.Add("<unk>", TokenType::kUnknown);
    builder.AddByteTokens();
    std::map<std::string, std::pair<TokenId, float>> known;
    for (int i = 0; i < 120; ++i) {
      const std::string spelling =
          absl::StrReplaceAll(RandomText(random, 2 + static_cast<size_t>(i) / 20), {{" ", kSpace}});
      const float score = static_cast<float>(random() % 12);
      if (spelling.empty()) continue;
      known.try_emplace(spelling, builder.size(), score);
      builder.Add(spelling, TokenType::kNormal, score);
    }
    builder.metadata().SetBool("tokenizer.ggml.add_space_prefix", round % 2 == 0);
    const auto tokenizer = builder.BuildOrDie();
    for (int sample = 0; sample < 40; ++sample) {
      const std::string text = RandomText(random, 60);
      const auto score = [&](size_t i, const std::vector<std::string>& p) { return known.at(p[i] + p[i + 1]).second; };
      const std::string escaped =
          (round % 2 == 0 && !text.empty() ? kSpace : "") + absl::StrReplaceAll(text, {{" ", kSpace}});
      const std::vector<std::string> parts = MergeAll(
          Characters(escaped), [&](const std::string& a, const std::string& b) { return known.contains(a + b); },
          [&](size_t i, size_t best, const auto& p) { return score(i, p) > score(best, p); });
      std::vector<TokenId> expected;
      for (const std::string& part : parts) {
        if (const auto it = known.find(part); it != known.end()) {
          expected.push_back(it->second.first);
          merged += part.size() > NextUtf8(part).bytes;
        } else {
          for (const char c : part) expected.push_back(1 + static_cast<uint8_t>(c));
        }
      }
      tokens += expected.size();
      ASSERT_EQ(tokenizer->Encode(text, {}), expected) << "round " << round << ": \"" << text << "\"";
    }
  }
  EXPECT_GT(merged * 10, tokens);  // the texts did exercise merging
}

TEST(BpeRestatementTest, RandomMergesAndTexts) {
  std::mt19937 random(11);
  const auto pretokenizer = Pretokenizer::Create("gpt-2");
  ASSERT_TRUE(pretokenizer.ok());
  size_t merged = 0, tokens = 0;
  for (int round = 0; round < 60; ++round) {
    VocabBuilder builder("gpt2");
    builder.AddByteAlphabet();
    builder.metadata().SetString("tokenizer.ggml.pre", "gpt-2");
    std::map<std::pair<std::string, std::string>, int> ranks;
    std::map<std::string, TokenId> ids;
    std::vector<std::string> spellings;
    for (const char* c : {"a", "b", "c", " ", ".", "\xC3"}) spellings.push_back(SpellBytes(c));
    for (int i = 0; i < 80; ++i) {
      const std::string left = spellings[random() % spellings.size()], right = spellings[random() % spellings.size()];
      if (left.size() + right.size() > 24 || ids.contains(left + right)) continue;
      ranks.try_emplace({left, right}, static_cast<int>(ranks.size()));
      ids.try_emplace(left + right, builder.size());
      builder.MergeToken(left, right);
      spellings.push_back(left + right);
    }
    const auto tokenizer = builder.BuildOrDie();
    for (int sample = 0; sample < 40; ++sample) {
      const std::string text = RandomText(random, 60);
      std::vector<TokenId> expected;
      for (const absl::string_view word : (*pretokenizer)->Split(text)) {
        const auto rank = [&](size_t i, const auto& p) { return ranks.at({p[i], p[i + 1]}); };
        for (const std::string& part : MergeAll(
                 Characters(SpellBytes(word)),
                 [&](const std::string&a, const std::string&b) {
                   return ranks.contains({a, b});
                 },
                 [&](size_t i, size_t best, const auto&p) { return rank(i, p) < rank(best, p); })) {
          const auto it = ids.find(part);
          const std::string bytes = UnspellBytes(part);
          expected.push_back(it != ids.end() ? it->second : static_cast<uint8_t>(bytes[0]));
          merged += bytes.size() > 1;
        }
      }
      tokens += expected.size();
      ASSERT_EQ(tokenizer->Encode(text, {}), expected) << "round " << round << ": \"" << text << "\"";
    }
  }
  EXPECT_GT(merged * 20, tokens);
}

}  // namespace
}  // namespace tandem::engine
