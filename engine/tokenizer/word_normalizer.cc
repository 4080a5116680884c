#include "engine/tokenizer/word_normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "engine/tokenizer/utf8.h"

namespace tandem::engine {
namespace {

enum class Kind { kDrop, kSpace, kAlone, kPart };

// White_Space of Unicode.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// The blocks of ideographs that BERT sets apart.
bool IsIdeograph(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kBlocks[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                                       {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                                                       {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
  return std::any_of(std::begin(kBlocks), std::end(kBlocks),
                     [c](const auto& block) { return c >= block.first && c <= block.second; });
}

Kind KindOf(char32_t c) {
  if (IsSpace(c)) return Kind::kSpace;
  // All of ASCII that is neither letter nor digit counts as punctuation, "$" and "^" too.
  if (c > 0x20 && c < 0x7F) {
    const bool letter_or_digit = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    return letter_or_digit ? Kind::kPart : Kind::kAlone;
  }
  if (c == 0xFFFD) return Kind::kDrop;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category == UTF8PROC_CATEGORY_CN || category >= UTF8PROC_CATEGORY_CC) return Kind::kDrop;
  if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) return Kind::kAlone;
  return IsIdeograph(c) ? Kind::kAlone : Kind::kPart;
}

class Normalizer {
 public:
  Normalizer(bool lower_case, bool strip_accents) : lower_case_(lower_case), strip_accents_(strip_accents) {}

  void Add(char32_t c) {
    if (!strip_accents_ || c < 0x80) return AddDecomposed(c);
    // No character decomposes into more than 4, or 18 with compatibility forms, which are not asked for here.
    std::array<utf8proc_int32_t, 32> parts;
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(),
                                                           UTF8PROC_DECOMPOSE, &boundary);
    if (count <= 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) return AddDecomposed(c);
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      if (utf8proc_category(parts[static_cast<size_t>(i)]) == UTF8PROC_CATEGORY_MN) continue;
      AddDecomposed(static_cast<char32_t>(parts[static_cast<size_t>(i)]));
    }
  }

  NormalizedWords Finish() {
    EndWord();
    return std::move(words_);
  }

 private:
  void AddDecomposed(char32_t c) {
    const Kind kind = KindOf(c);
    if (kind == Kind::kDrop) return;
    if (kind != Kind::kPart) EndWord();
    if (kind == Kind::kSpace) return;
    if (c < 0x80) {
      const bool lowers = lower_case_ && c >= 'A' && c <= 'Z';
      words_.text.push_back(static_cast<char>(lowers ? c + ('a' - 'A') : c));
    } else {
      const auto lower = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
      AppendUtf8(lower_case_ ? lower : c, &words_.text);
    }
    if (kind == Kind::kAlone) EndWord();
  }

  void EndWord() {
    const size_t begin = words_.ends.empty() ? 0 : words_.ends.back();
    if (words_.text.size() > begin) words_.ends.push_back(words_.text.size());
  }

  const bool lower_case_, strip_accents_;
  NormalizedWords words_;
};

}  // namespace

NormalizedWords NormalizeWords(absl::string_view text, bool lower_case, bool strip_accents) {
  Normalizer normalizer(lower_case, strip_accents);
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.status == Utf8Status::kWhole) normalizer.Add(step.code_point);
    text.remove_prefix(step.bytes);
  }
  return normalizer.Finish();
}

}  // namespace tandem::engine
