#include "worker/model/jinja_outline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

using testing::HasSubstr;

// The outline as one text: statements in %, expressions in {}, fixed output in [].
std::string Outline(absl::string_view source) {
  const auto steps = ReadJinjaOutline(source);
  if (!steps.ok()) return std::string(steps.status().message());
  std::string text;
  for (const JinjaStep& step : *steps) {
    const absl::string_view marks = step.kind == JinjaStep::Kind::kStatement ? "%%"
                                    : step.kind == JinjaStep::Kind::kLiteral ? "[]"
                                                                             : "{}";
    absl::StrAppend(&text, marks.substr(0, 1), step.text, marks.substr(1));
  }
  return text;
}

TEST(JinjaOutlineTest, WritesCodeInOneWay) {
  EXPECT_EQ(Outline("{% if loop.first and messages[0]['role'] != 'system' %}"),
            "%if loop.first and messages[0].role != \"system\"%");
  EXPECT_EQ(Outline("{%if  loop . first and messages [ 0 ].role!=\"system\"%}"),
            "%if loop.first and messages[0].role != \"system\"%");
  EXPECT_EQ(Outline("{% set x = f(a, 'b\\\"') %}"), "%set x = f(a , \"b\\\"\")%");
}

TEST(JinjaOutlineTest, TakesSumsApartAndJoinsLiterals) {
  EXPECT_EQ(Outline("a{{ 'b' + \"c\\n\" + m['x'] + 'd' }}e{{ y }}"), "[abc\n]{m.x}[de]{y}");
  EXPECT_EQ(Outline("{{ '{% %}' }}{{ '+' }}"), "[{% %}+]");
  EXPECT_EQ(Outline("{ } {x"), "[{ } {x]");
  EXPECT_EQ(Outline("{{ 'a\nb' }}"), "[a\nb]");
}

TEST(JinjaOutlineTest, TrimsWhiteSpaceAsTemplatesAreRendered) {
  EXPECT_EQ(Outline("{% for a in b %}\n  {% if c %}\n  x\n  {% endif %}\n{% endfor %}\n"),
            "%for a in b%%if c%[  x\n]%endif%%endfor%");
  EXPECT_EQ(Outline("x  {%- if c -%}  y \n {%- endif %}\n\nz\n"), "[x]%if c%[y]%endif%[\nz]");
  EXPECT_EQ(Outline("a {% if c %} b"), "[a ]%if c%[ b]");
  EXPECT_EQ(Outline("{{ a }}\n{{ b }}"), "{a}[\n]{b}");
  EXPECT_EQ(Outline("{{ a }}  {% b %}"), "{a}[  ]%b%");
  EXPECT_EQ(Outline("  {{- a -}}  b"), "{a}[b]");
  EXPECT_EQ(Outline("x\n"), "[x]");
}

TEST(JinjaOutlineTest, RefusesWhatItCannotRead) {
  EXPECT_THAT(Outline("{{ a | trim }}"), HasSubstr("operator '|'"));
  EXPECT_THAT(Outline("{# note #}"), HasSubstr("comment"));
  EXPECT_THAT(Outline("{{ 'a"), HasSubstr("no }}"));
  EXPECT_THAT(Outline("{% if"), HasSubstr("no %}"));
  EXPECT_THAT(Outline("{{ '\\x41' }}"), HasSubstr("escape"));
  EXPECT_THAT(Outline("a\r\nb"), HasSubstr("carriage return"));
}

}  // namespace
}  // namespace weir
