// Whether the schemas of a oneOf can be told apart, so that "one of them" and "any of them" are the same.
#pragma once

#include "absl/status/status.h"
#include "engine/grammar/schema_node.h"

namespace tandem::engine::grammar {

// `one_of`: a node whose value is the list. Errors: kInvalidArgument naming two schemas that one value might satisfy
// both: their types overlap, their values (enum, const) too, and no property that both require has disjoint values.
absl::Status CheckDisjoint(const Json& root, const SchemaNode& one_of);

}  // namespace tandem::engine::grammar
