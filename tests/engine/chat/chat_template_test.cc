#include "engine/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/chat/budget.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Render(absl::string_view source, const ChatInput& input = {}) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(input);
}

std::string Text(absl::string_view source, const ChatInput& input = {}) {
  const auto result = Render(source, input);
  return result.ok() ? *result : absl::StrCat("error: ", std::string(result.status().message()));
}

// The value of an expression as text.
std::string Eval(absl::string_view expression) { return Text(absl::StrCat("{{ ", expression, " }}")); }

TEST(ChatTemplateTest, RendersTheBundledChatMl) {
  constexpr absl::string_view kChatMl =
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
      "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  ChatInput input = {.messages = {{"system", "Be kind."}, {"user", "Hi {{ x }}"}}};
  EXPECT_EQ(Text(kChatMl, input),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi {{ x }}<|im_end|>\n<|im_start|>assistant\n");
  input.add_generation_prompt = false;
  input.messages.pop_back();
  EXPECT_EQ(Text(kChatMl, input), "<|im_start|>system\nBe kind.<|im_end|>\n");
}

TEST(ChatTemplateTest, PassesTheTokensAndTheClock) {
  ChatInput input = {.bos_token = "<s>", .eos_token = "</s>"};
  EXPECT_EQ(Text("{{ bos_token }}x{{ eos_token }}", input), "<s>x</s>");
  EXPECT_EQ(Text("{{ strftime_now is defined }}", input), "False");
  input.now = absl::CivilSecond(2024, 7, 26, 12);
  EXPECT_EQ(Text("{{ strftime_now('%d %b %Y') }}", input), "26 Jul 2024");
}

TEST(WhiteSpaceTest, BlocksTakeTheirLineAndOutputsDoNot) {
  EXPECT_EQ(Text("a\n  {% if true %}\n b\n  {% endif %}\nc\n"), "a\n b\nc");
  EXPECT_EQ(Text("a\n  {{ 1 }}\nb"), "a\n  1\nb");
  EXPECT_EQ(Text("a\n  {# note #}\nb"), "a\nb");
  EXPECT_EQ(Text("x  {% if true %}  y{% endif %}"), "x    y");  // not at the start of a line
}

TEST(WhiteSpaceTest, SignsTakeOrKeepIt) {
  EXPECT_EQ(Text("a \n {{- 1 -}} \n b"), "a1b");
  EXPECT_EQ(Text("a \n {%- if true -%} \n b {%- endif %}"), "ab");
  EXPECT_EQ(Text("a\n  {%+ if true +%}\nb{% endif %}"), "a\n  \nb");
  EXPECT_EQ(Text("a {#- note -#} b"), "ab");
}

TEST(WhiteSpaceTest, OneFinalLineBreakGoesAndCarriageReturnsBecomeLineBreaks) {
  EXPECT_EQ(Text("a\n\n"), "a\n");
  EXPECT_EQ(Text("a\r\nb\rc"), "a\nb\nc");
}

TEST(BlockTest, RawIsText) {
  EXPECT_EQ(Text("a{% raw %}{{ x }}{% if %}{# #}{% endraw %}b"), "a{{ x }}{% if %}{# #}b");
  EXPECT_EQ(Text("a\n{% raw %}\n {{ x }}\n {% endraw %}\nb"), "a\n {{ x }}\nb");
  EXPECT_EQ(Text("a {%- raw -%} \n{{ x }} {%- endraw -%} b"), "a{{ x }}b");
  EXPECT_EQ(Text("{% set rawx = 1 %}{{ rawx }}"), "1");
}

TEST(BlockTest, GenerationPrintsItsBody) {
  EXPECT_EQ(
      Text("{% for x in [1, 2] %}{% generation %}{{ x }}{% if x == 1 %}{% continue %}{% endif %}.{% endgeneration %}"
           "{% endfor %}"),
      "12.");
}

TEST(ExpressionTest, Arithmetic) {
  EXPECT_EQ(Eval("1 + 2 * 3 - 4"), "3");
  EXPECT_EQ(Eval("(1 + 2) * 3"), "9");
  EXPECT_EQ(Eval("7 / 2"), "3.5");
  EXPECT_EQ(Eval("4 / 2"), "2.0");
  EXPECT_EQ(Eval("7 // 2 ~ ' ' ~ -7 // 2 ~ ' ' ~ -7 % 3 ~ ' ' ~ 7 % -3"), "3 -4 2 -2");
  EXPECT_EQ(Eval("1.5 + 1"), "2.5");
  EXPECT_EQ(Eval("-7.5 // 2"), "-4.0");
  EXPECT_EQ(Eval("1e20 * 10"), "1e+21");
  EXPECT_EQ(Eval("'ab' * 3"), "ababab");
  EXPECT_EQ(Eval("true + 1"), "2");
}

TEST(ExpressionTest, ArithmeticErrors) {
  EXPECT_THAT(Eval("1 / 0"), HasSubstr("division by zero"));
  EXPECT_THAT(Eval("1 % 0"), HasSubstr("division by zero"));
  EXPECT_THAT(Eval("1.0 // 0"), HasSubstr("division by zero"));
  EXPECT_THAT(Eval("9223372036854775807 + 1"), HasSubstr("does not fit 64 bits"));
  EXPECT_THAT(Eval("(0 - 9223372036854775807 - 1) // -1"), HasSubstr("does not fit 64 bits"));
  EXPECT_EQ(Eval("(0 - 9223372036854775807 - 1) % -1"), "0");
  EXPECT_THAT(Eval("9223372036854775808"), HasSubstr("does not fit 64 bits"));
  EXPECT_THAT(Eval("'a' + 1"), HasSubstr("does not fit a string and a int"));
  EXPECT_THAT(Eval("'a' + nothing"), HasSubstr("\"nothing\" is undefined"));
  EXPECT_THAT(Eval("2 ** 3"), HasSubstr("** is not supported"));
}

TEST(ExpressionTest, Comparisons) {
  EXPECT_EQ(Eval("1 == 1.0 and true == 1 and 'a' != 'b' and [1, [2]] == [1, [2]] and {'a': 1} == {'a': 1}"), "True");
  EXPECT_EQ(Eval("1 < 2 <= 2 < 1"), "False");
  EXPECT_EQ(Eval("'a' < 'b' and 'b' > 'a' and 2 >= 2"), "True");
  EXPECT_EQ(Eval("'bc' in 'abcd' and 2 in [1, 2] and 'k' in {'k': 0} and 3 not in [1] and 1 not in {'a': 1}"), "True");
  EXPECT_EQ(Eval("'x' in nothing"), "False");
  EXPECT_EQ(Eval("none == nothing or none == false or '1' == 1"), "False");
  EXPECT_THAT(Eval("1 < 'a'"), HasSubstr("the operator < does not fit"));
  EXPECT_THAT(Eval("1 in 2"), HasSubstr("the operator in does not fit"));
}

TEST(ExpressionTest, LogicGivesOperandsAndStopsEarly) {
  EXPECT_EQ(Eval("'' or 'x'"), "x");
  EXPECT_EQ(Eval("0 and raise_exception('no')"), "0");
  EXPECT_EQ(Eval("1 or raise_exception('no')"), "1");
  EXPECT_EQ(Eval("not []"), "True");
  EXPECT_EQ(Eval("not 1 == 2"), "True");
}

TEST(ExpressionTest, FiltersAndTestsBindTighterThanOperators) {
  EXPECT_EQ(Eval("'a' + ' b ' | trim"), "ab");
  EXPECT_EQ(Eval("not 1 is string"), "True");
  EXPECT_EQ(Eval("1 + [1, 2] | length"), "3");
}

TEST(ExpressionTest, Conditional) {
  EXPECT_EQ(Eval("'a' if 1 else 'b'"), "a");
  EXPECT_EQ(Eval("'a' if 0 else 'b' if 0 else 'c'"), "c");
  EXPECT_EQ(Eval("'a' if 0"), "");
}

TEST(ExpressionTest, SubscriptsAndSlices) {
  EXPECT_EQ(Eval("[1, 2, 3][0] ~ [1, 2, 3][-1] ~ {'a': 4}['a'] ~ {'a': 5}.a ~ 'xyz'[1]"), "1345y");
  EXPECT_EQ(Eval("[1, 2, 3, 4][1:3]"), "[2, 3]");
  EXPECT_EQ(Eval("[1, 2, 3, 4][::-1]"), "[4, 3, 2, 1]");
  EXPECT_EQ(Eval("[1, 2, 3, 4][-3:][:-1]"), "[2, 3]");
  EXPECT_EQ(Eval("[1, 2, 3, 4][10:] ~ [1, 2][-10:1] ~ [1, 2, 3][::2] ~ [1, 2, 3][5::-2]"), "[][1][1, 3][3, 1]");
  EXPECT_EQ(Eval("[1, 2][::9223372036854775807] ~ [1, 2][::-9223372036854775807]"), "[1][2]");
  EXPECT_EQ(Eval("'a\xC3\xA9\xE4\xBD\xA0z'[1:3]"), "\xC3\xA9\xE4\xBD\xA0");
  EXPECT_EQ(Eval("[1][5] is defined ~ none.x is defined"), "FalseFalse");
  EXPECT_THAT(Eval("[1][::0]"), HasSubstr("step of a slice is 0"));
  EXPECT_THAT(Eval("[1]['a':]"), HasSubstr("bound of a slice"));
  EXPECT_THAT(Eval("nothing.x"), HasSubstr("\"nothing\" is undefined"));
  EXPECT_THAT(Eval("nothing[0]"), HasSubstr("\"nothing\" is undefined"));
}

TEST(ExpressionTest, LiteralsPrintAsInPython) {
  EXPECT_EQ(Eval("[1, 'a', none, true, 1.0, {'k': \"it's\"}]"), "[1, 'a', None, True, 1.0, {'k': \"it's\"}]");
  EXPECT_EQ(Eval("(1, 2)"), "[1, 2]");
  EXPECT_EQ(Eval("'a\\n\\t\\x41\\u00e9\\\\'"), "a\n\tA\xC3\xA9\\");
  EXPECT_EQ(Eval("'a' 'b'"), "ab");
  EXPECT_EQ(Eval("{'a': 1, 'a': 2}"), "{'a': 2}");
  EXPECT_EQ(Eval("nothing"), "");
  EXPECT_EQ(Eval("{'a': {'b': {}}}"), "{'a': {'b': {}}}");
}

TEST(FilterTest, Values) {
  EXPECT_EQ(Eval("'  \xE3\x80\x80x ' | trim"), "x");
  EXPECT_EQ(Eval("'\xC3\xA9\xE4\xBD\xA0' | length ~ {'a': 1} | count"), "21");
  EXPECT_EQ(Eval("'stra\xC3\x9F\x65 \xC3\xA9' | upper"),
            "STRA\xE1\xBA\x9E"
            "E \xC3\x89");
  EXPECT_EQ(Eval("'\xC3\x89 A' | lower ~ 'aB' | capitalize ~ 'ab cD' | title"), "\xC3\xA9 aAbAb Cd");
  EXPECT_EQ(Eval("[1, 'b'] | join(', ') ~ [{'a': 1}, {'a': 2}] | join('+', attribute='a')"), "1, b1+2");
  EXPECT_EQ(Eval("nothing | default('d') ~ '' | default('d') ~ '' | default('d', true) ~ 1 | d('x')"), "dd1");
  EXPECT_EQ(Eval("[1, 2] | first ~ [1, 2] | last ~ [] | first | default('none')"), "12none");
  EXPECT_EQ(Eval("'abc' | list ~ {'k': 1} | list ~ 'ab' | reverse"), "['a', 'b', 'c']['k']ba");
  EXPECT_EQ(Eval("{'b': 1, 'A': 2} | items ~ {'b': 1, 'A': 2} | dictsort"), "[['b', 1], ['A', 2]][['A', 2], ['b', 1]]");
  EXPECT_EQ(Eval("'a-b-c' | replace('-', '+')"), "a+b+c");
  EXPECT_EQ(Eval("[1, 2, 3, 4] | select('odd') | list ~ [1, 0] | select ~ [1, 2] | reject('equalto', 1)"),
            "[1, 3][1][2]");
  EXPECT_EQ(Eval("[{'r': 'u'}, {'r': 'a'}] | selectattr('r', 'equalto', 'u') ~ [{}] | rejectattr('r')"),
            "[{'r': 'u'}][{}]");
  EXPECT_EQ(Eval("[{'a': {'b': 1}}] | map(attribute='a.b') ~ ['a'] | map('upper') ~ [1, 2, 1] | unique"),
            "[1]['A'][1, 2]");
  EXPECT_EQ(Eval("'12' | int ~ 'x' | int(7) ~ 3.9 | int ~ '1.5' | float ~ -2 | abs ~ 5 | string ~ 'x' | safe"),
            "12731.525x");
}

TEST(FilterTest, ToJson) {
  EXPECT_EQ(Eval("{'a': [1, 2.5, none, true, \"q\\\"\\n\\x01\"], 'e': {}, 'l': []} | tojson"),
            "{\"a\": [1, 2.5, null, true, \"q\\\"\\n\\u0001\"], \"e\": {}, \"l\": []}");
  EXPECT_EQ(Eval("{'a': [1], 'b': {}} | tojson(indent=2)"), "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
  EXPECT_EQ(Eval("'<\xC3\xA9>' | tojson ~ '\xC3\xA9\xF0\x9F\x98\x80' | tojson(ensure_ascii=true)"),
            "\"<\xC3\xA9>\"\"\\u00e9\\ud83d\\ude00\"");
  EXPECT_EQ(Eval("{'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':'))"), "{\"a\":2,\"b\":1}");
  EXPECT_THAT(Eval("nothing | tojson"), HasSubstr("tojson cannot write"));
}

TEST(FilterTest, OrderAndSums) {
  EXPECT_EQ(Eval("[3, 1.5, 2] | sort ~ ['b', 'A', 'c'] | sort ~ ['b', 'A'] | sort(case_sensitive=true)"),
            "[1.5, 2, 3]['A', 'b', 'c']['A', 'b']");
  EXPECT_EQ(
      Eval("[{'k': 2, 'n': 1}, {'k': 1, 'n': 2}, {'k': 2, 'n': 3}] | sort(true, attribute='k') | map(attribute='n')"),
      "[1, 3, 2]");
  EXPECT_EQ(Eval("[2, 3, 1] | max ~ [2, 3, 1] | min ~ ['b', 'C'] | max ~ [{'a': 1}, {'a': 5}] | max(attribute='a')"),
            "31C{'a': 5}");
  EXPECT_EQ(Eval("[] | max is defined ~ [] | sort"), "False[]");
  EXPECT_EQ(Eval("[1, 2] | sum ~ ' ' ~ [{'a': 1.5}, {'a': 2}] | sum('a') ~ ' ' ~ [1] | sum(start=10)"), "3 3.5 11");
  EXPECT_THAT(Eval("[1, 'a'] | sort"), HasSubstr("strings and numbers"));
  EXPECT_THAT(Eval("[[]] | sort"), HasSubstr("a list cannot be put in order"));
  EXPECT_THAT(Eval("['a'] | sum"), HasSubstr("the operator + does not fit"));
}

TEST(FilterTest, LinesWordsAndNumbers) {
  EXPECT_EQ(Eval("'a\\n\\nb' | indent ~ '|' ~ 'a\\nb' | indent(2, true) ~ '|' ~ 'a\\n\\nb' | indent('> ', blank=true)"),
            "a\n\n    b|  a\n  b|a\n> \n> b");
  EXPECT_EQ(Eval("' one  two\\nthree ' | wordcount ~ '<\"a\" & b>' | e"), "3&lt;&#34;a&#34; &amp; b&gt;");
  EXPECT_EQ(
      Eval("2.5 | round ~ ' ' ~ 2.345 | round(2) ~ ' ' ~ 2.1 | round(method='ceil') ~ ' ' ~ 19 | round(-1, 'floor')"),
      "2.0 2.35 3.0 10.0");
  EXPECT_EQ(Eval("'a-b-c' | replace('-', '+', 1) ~ 'a-b-c'.replace('-', '', 2) ~ 'aaa' | replace('a', 'b', 0)"),
            "a+b-cabcaaa");
  EXPECT_THAT(Eval("'a' | round"), HasSubstr("round of a string"));
  EXPECT_THAT(Eval("1 | round(method='up')"), HasSubstr("\"up\""));
  EXPECT_THAT(Eval("1 | round(999)"), HasSubstr("limits are -300 and 300"));
  EXPECT_THAT(Eval("'a' | indent(-1)"), HasSubstr("indent by -1"));
}

TEST(FilterTest, Errors) {
  EXPECT_THAT(Eval("1 | explode"), HasSubstr("the filter \"explode\" is not supported"));
  EXPECT_THAT(Eval("1 | length"), HasSubstr("a int has no length"));
  EXPECT_THAT(Eval("1 | items"), HasSubstr("no items"));
  EXPECT_THAT(Eval("'a' | replace('', 'b')"), HasSubstr("not empty"));
  EXPECT_THAT(Eval("[1] | map('map', 'map')"), HasSubstr("map of map"));
  EXPECT_THAT(Eval("5 | list"), HasSubstr("no elements"));
}

TEST(TestTest, Types) {
  EXPECT_EQ(Eval("[nothing is defined, nothing is undefined, none is none, 'a' is string, 1 is number, 1 is integer]"),
            "[False, True, True, True, True, True]");
  EXPECT_EQ(Eval("[1.0 is float, true is boolean, true is true, 0 is false, {} is mapping, [] is sequence]"),
            "[True, True, True, False, True, True]");
  EXPECT_EQ(Eval("['a' is iterable, 1 is iterable, range is callable, 1 is not string, true is integer]"),
            "[True, False, True, True, False]");
  EXPECT_EQ(Eval("[3 is odd, 4 is even, 9 is divisibleby 3, 1 is in [1], 2 is gt(1), 'a' is eq 'a']"),
            "[True, True, True, True, True, True]");
  EXPECT_THAT(Eval("1 is magic"), HasSubstr("the test \"magic\" is not supported"));
  EXPECT_THAT(Eval("1 is eq"), HasSubstr("needs an argument"));
}

TEST(MethodTest, Strings) {
  EXPECT_EQ(Eval("' x '.strip() ~ '|' ~ 'xxay'.lstrip('x') ~ '|' ~ 'ayy'.rstrip('y')"), "x|ay|a");
  EXPECT_EQ(Eval("'a,b,c'.split(',') ~ ' a  b '.split() ~ 'a,b,c'.split(',', 1)"),
            "['a', 'b', 'c']['a', 'b']['a', 'b,c']");
  EXPECT_EQ(Eval("'abc'.startswith('ab') and 'abc'.endswith(('x', 'c')) and not 'a'.startswith('ab')"), "True");
  EXPECT_EQ(Eval("'aB'.upper() ~ 'aB'.lower() ~ 'aB'.title() ~ 'ab'.capitalize() ~ 'aa'.replace('a', 'b')"),
            "ABabAbAbbb");
  EXPECT_EQ(Eval("'-'.join(['a', 'b']) ~ '\xC3\xA9z'.find('z') ~ 'a'.find('b')"), "a-b1-1");
  EXPECT_THAT(Eval("'a'.format(1)"), HasSubstr("the method \"format\" of a string is not supported"));
  EXPECT_THAT(Eval("'a'.split('')"), HasSubstr("not empty"));
  EXPECT_THAT(Eval("'a'.startswith(1)"), HasSubstr("must be a string"));
}

TEST(MethodTest, DictsAndOthers) {
  EXPECT_EQ(Eval("{'a': 1}.get('a') ~ {}.get('a') ~ {}.get('a', 2) ~ {'a': 1}.keys() ~ {'a': 1}.values()"),
            "1None2['a'][1]");
  EXPECT_EQ(Text("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}"), "a=1;b=2;");
  EXPECT_THAT(Eval("[1].append(2)"), HasSubstr("the method \"append\" of a list is not supported"));
  EXPECT_THAT(Eval("nothing.strip()"), HasSubstr("\"nothing\" is undefined"));
}

TEST(ForTest, LoopVariables) {
  EXPECT_EQ(Text("{% for x in ['a', 'b', 'c'] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}"
                 "{{ loop.length }}{{ loop.revindex }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}"),
            "10TrueFalse33b 21FalseFalse32ac 32FalseTrue31b ");
}

TEST(ForTest, ElseConditionBreakContinueAndRange) {
  EXPECT_EQ(Text("{% for x in [] %}x{% else %}none{% endfor %}"), "none");
  EXPECT_EQ(Text("{% for x in nothing %}x{% else %}none{% endfor %}"), "none");
  EXPECT_EQ(Text("{% for x in range(6) if x % 2 %}{{ x }}/{{ loop.length }} {% endfor %}"), "1/3 3/3 5/3 ");
  EXPECT_EQ(Text("{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 3 %}{% break %}{% endif "
                 "%}{{ x }}{% endfor %}"),
            "013");
  EXPECT_EQ(Eval("range(2, 8, 3) ~ range(3, 0, -1) ~ range(0)"), "[2, 5][3, 2, 1][]");
  EXPECT_THAT(Eval("range(1, 2, 0)"), HasSubstr("step of range is 0"));
  EXPECT_THAT(Text("{% for a, b in [[1, 2, 3]] %}{% endfor %}"),
              HasSubstr("3 elements cannot be given to 2 variables"));
  EXPECT_THAT(Text("{% for a in 5 %}{% endfor %}"), HasSubstr("no elements to walk over"));
}

TEST(SetTest, Scopes) {
  EXPECT_EQ(Text("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}"), "21");
  EXPECT_EQ(Text("{% if true %}{% set x = 2 %}{% endif %}{{ x }}"), "2");
  EXPECT_EQ(Text("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"),
            "3");
  EXPECT_EQ(Text("{% set a, b = [1, 2] %}{{ b }}{{ a }}"), "21");
  EXPECT_EQ(Text("{% set x %}a{{ 1 }}{% endset %}{{ x }}{{ x }}"), "a1a1");
  EXPECT_THAT(Text("{% set x = 1 %}{% set x.y = 2 %}"), HasSubstr("only fields of a namespace"));
}

TEST(MacroTest, ArgumentsDefaultsAndScope) {
  EXPECT_EQ(Text("{% macro m(a, b='B') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}"),
            "1B1243");
  EXPECT_EQ(Text("{% set g = 'G' %}{% macro m() %}{{ g }}{{ i }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}"),
            "G");
  EXPECT_EQ(Text("{% macro m(n) %}{% if n %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}"), "321");
  EXPECT_THAT(Text("{% macro m() %}{% endmacro %}{{ m(1) }}"), HasSubstr("takes 0 arguments, not 1"));
  EXPECT_THAT(Eval("nothing()"), HasSubstr("cannot be called"));
}

TEST(RaiseTest, ReachesTheCallerWithItsPlace) {
  const auto result = Render("line one\n  {{ raise_exception('Roles must ' + 'alternate') }}");
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(result.status().message(), "chat template, line 2, column 21: Roles must alternate");
}

struct BadSyntax {
  const char* source;
  const char* message;
};

class SyntaxErrorTest : public testing::TestWithParam<BadSyntax> {};

TEST_P(SyntaxErrorTest, HasLineAndColumn) {
  const auto result = ChatTemplate::Parse(GetParam().source);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << GetParam().source;
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(GetParam().message)) << GetParam().source;
}

INSTANTIATE_TEST_SUITE_P(
    Sources, SyntaxErrorTest,
    testing::Values(
        BadSyntax{"a\n {{ 1", "line 2, column 2: a tag {{ does not end"},
        BadSyntax{"{# x", "line 1, column 1: a comment"}, BadSyntax{"{{ 'a }}", "column 4: a string does not end"},
        BadSyntax{"{{ 'a\\", "a string does not end"}, BadSyntax{"{{ '\\ud800' }}", "hexadecimal digits"},
        BadSyntax{"{{ '\\x4' }}", "hexadecimal digits"}, BadSyntax{"{{ $ }}", "unexpected character \"$\""},
        BadSyntax{"{{ ) }}", "\")\" closes nothing"}, BadSyntax{"{{ (1] }}", "\"]\" closes nothing"},
        BadSyntax{"{{ }}", "expected an expression"}, BadSyntax{"{{ 1 2 }}", "expected \"}}\", found \"2\""},
        BadSyntax{"{{ a. }}", "expected a name"}, BadSyntax{"{{ a[] }}", "expected an expression"},
        BadSyntax{"{{ f(a=1, 2) }}", "expected a keyword argument"}, BadSyntax{"{{ a | }}", "name of a filter"},
        BadSyntax{"{{ a is }}", "name of a test"}, BadSyntax{"{% if a %}b", "ends before {% endif %}"},
        BadSyntax{"{% for a in b %}", "ends before {% endfor %}"}, BadSyntax{"{% for a b %}", "expected \"in\""},
        BadSyntax{"{% endif %}", "{% endif %} does not fit here"}, BadSyntax{"{% else %}", "does not fit here"},
        BadSyntax{"{% for a in b %}{% elif %}{% endfor %}", "{% elif %} does not fit here"},
        BadSyntax{"{% %}", "name of a statement"}, BadSyntax{"{% set 1 = 2 %}", "name of a variable"},
        BadSyntax{"{% set a 2 %}", "expected \"=\""}, BadSyntax{"{% break %}", "outside a for"},
        BadSyntax{"{% for a in b %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "outside a for"},
        BadSyntax{"\n{% raw %}x", "line 2, column 1: {% raw %} does not end"},
        BadSyntax{"{% generation %}x", "ends before {% endgeneration %}"},
        BadSyntax{"{% endraw %}", "does not fit here"},
        BadSyntax{"{% include 'x' %}", "the statement {% include %} is not supported"},
        BadSyntax{"{% call x() %}", "the statement {% call %} is not supported"},
        BadSyntax{"{% for a in b recursive %}", "recursive"}));

// Bounds. Each would otherwise take the process's stack, memory or time.
TEST(BoundsTest, DeepNestingIsRefusedByTheParser) {
  for (const auto& [open, close] :
       {std::pair("(", ")"), std::pair("[", "]"), std::pair("{'a':", "}"), std::pair("-", ""), std::pair("not ", ""),
        std::pair("1 if ", ""), std::pair("a[", "]"), std::pair("f(", ")")}) {
    std::string source = "{{ ";
    for (int i = 0; i < 100000; ++i) source += open;
    source += "1";
    for (int i = 0; i < 100000; ++i) source += close;
    EXPECT_EQ(ChatTemplate::Parse(source + " }}").status().code(), absl::StatusCode::kInvalidArgument) << open;
  }
  for (const char* tail : {"+1", ".a", "[0]", "()", "|trim", " is none", " if 1 else 1"}) {
    std::string source = "{{ 1";
    for (int i = 0; i < 100000; ++i) source += tail;
    EXPECT_EQ(ChatTemplate::Parse(source + " }}").status().code(), absl::StatusCode::kInvalidArgument) << tail;
  }
  std::string source;
  for (int i = 0; i < 100000; ++i) source += "{% if 1 %}";
  EXPECT_EQ(ChatTemplate::Parse(source).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(BoundsTest, RunawayTemplatesAreStopped) {
  const auto code = [](absl::string_view source) { return Render(source).status().code(); };
  EXPECT_EQ(code("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(
      code("{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"),
      absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("{% set x = 'x' * 1000000 %}{% for i in range(1000) %}{{ x }}{% endfor %}"),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("{{ 'x' * 9223372036854775807 }}"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("{{ range(9223372036854775807) }}"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}"), absl::StatusCode::kResourceExhausted);
}

TEST(BoundsTest, SearchesPayForTheirWorstCase) {
  const absl::string_view build = "{% set text = 'a' * 4000000 %}{% set needle = 'a' * 2000000 + 'b' %}";
  for (const absl::string_view use : {"{{ needle in text }}", "{{ text.split(needle) }}", "{{ text.find(needle) }}",
                                      "{{ text | replace(needle, 'c') }}"}) {
    EXPECT_EQ(Render(absl::StrCat(build, use)).status().code(), absl::StatusCode::kResourceExhausted) << use;
  }
}

TEST(BoundsTest, ValuesThatShareElementsCostTheirRealSize) {
  // 2^60 leaves in 60 nodes.
  const absl::string_view build =
      "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
  for (const absl::string_view use :
       {"{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x == ns.y }}", "{{ ns.x | string | length }}"}) {
    EXPECT_EQ(Render(absl::StrCat(build, use)).status().code(), absl::StatusCode::kResourceExhausted) << use;
  }
}

TEST(BoundsTest, ValuesNestOnlySoDeepAndNeverInCircles) {
  EXPECT_THAT(Text("{% set ns = namespace(x=[]) %}{% for i in range(100) %}{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("nest deeper than 64"));
  EXPECT_THAT(Text("{% set ns = namespace() %}{% set ns.x = ns %}"), HasSubstr("cannot be the field of a namespace"));
  EXPECT_THAT(Text("{% set ns = namespace() %}{% set ns.x = [ns] %}"), HasSubstr("cannot be an element"));
  EXPECT_THAT(Text("{% set ns = namespace() %}{% set o = namespace(x=ns) %}"), HasSubstr("cannot be the field"));
}

}  // namespace
}  // namespace tandem::engine
