// JSON Schema (2020-12, and the older drafts where they agree) to rules whose texts are JSON documents that the schema
// accepts. Not all that it accepts: the grammar fixes what a schema leaves to taste.
//   White space     nothing, one space, or a line break with up to 20 blanks, after { [ , : and before } ].
//   Objects         properties in the order of the schema, then additional ones. Without "additionalProperties" there
//   are
//                   none beside the declared ("properties" given) or any (not given). Additional names are written
//                   without escapes and differ from the declared ones.
//   Numbers         at most 15 digits before and after the point, two in the exponent; no exponent with "minimum" or
//   the
//                   like, where also the last digit after the point is not 0.
//   Strings         any, or escapes without surrogates.
// Supported: true, false, type (one or a list), enum, const, anyOf, oneOf (where two of its schemas can be told apart:
// by type, by values, or by the values of a required property), allOf of one schema, $ref within the document; objects:
// properties, required, additionalProperties; arrays: items, prefixItems, minItems, maxItems; strings: minLength,
// maxLength, pattern (regex_parser.h), format (date, time, date-time, uuid, email, hostname, ipv4); numbers: minimum,
// maximum, exclusiveMinimum, exclusiveMaximum. Annotations are skipped. Any other keyword is refused by name, since a
// text could break it.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {

inline constexpr size_t kMaxSchemaBytes = 128 << 10;
inline constexpr int kMaxSchemaDepth = 64;  // nested objects and arrays of the schema's text

// Errors: kInvalidArgument with the JSON pointer of the place (line and column where the text is no JSON): a keyword or
// a combination that is not supported, a value of the wrong type, a schema that nothing satisfies, more than the
// limits.
absl::StatusOr<RuleSet> RulesOfJsonSchema(absl::string_view text);

}  // namespace tandem::engine::grammar
