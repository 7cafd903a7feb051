#ifndef WEIR_WORKER_MODEL_JINJA_OUTLINE_H_
#define WEIR_WORKER_MODEL_JINJA_OUTLINE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir {

// One step of a Jinja template, written in one way only, so that templates that do the same can be
// compared.
struct JinjaStep {
  enum class Kind {
    kStatement,  // {% code %}
    kLiteral,    // fixed output
    kExpression  // {{ code }}
  };
  Kind kind = Kind::kStatement;
  // Code: its words separated by single spaces, strings in double quotes, x['name'] as x.name.
  // Fixed output: the text itself.
  std::string text;

  friend bool operator==(const JinjaStep& a, const JinjaStep& b) {
    return a.kind == b.kind && a.text == b.text;
  }
};

// Reads a Jinja template into its steps: expressions joined by + are taken apart, neighbouring
// fixed outputs become one, white space is trimmed as chat templates are rendered everywhere
// (trim_blocks and lstrip_blocks on; explicit {%- and -%} too). It does not run the template.
// UNIMPLEMENTED for what it cannot read: filters, comments, arithmetic, exotic escapes.
absl::StatusOr<std::vector<JinjaStep>> ReadJinjaOutline(absl::string_view source);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_JINJA_OUTLINE_H_
