// The conformance report: everything in the reference folder, and every architecture restated by the oracle, measured
// and put into the tables of docs/MODELS.md. Arithmetic is canonical, so the figures are the same on every machine.
#pragma once

#include <string>
#include <vector>

namespace tandem::testing {

// One table of the report.
struct ConformanceSection {
  std::string markdown;               // heading, what the columns mean, rows
  std::vector<std::string> failures;  // a line each; empty: all passed
};

ConformanceSection BlockFormatSection();   // every format: what can be done with it
ConformanceSection QuantisedSection();     // quant/: error of each file against exact arithmetic
ConformanceSection ReferenceSection();     // arch/: every architecture against another engine
ConformanceSection RestatementSection();   // every architecture against the oracle
ConformanceSection TokenizerSection();     // tokenizer/: ids and text of every case
ConformanceSection ChatTemplateSection();  // chat/: every rendering

// The text after which docs/MODELS.md is generated, up to the end of the file.
inline constexpr char kGeneratedMark[] = "<!-- generated: TANDEM_UPDATE_DOCS=1 build/test/bin/conformance_test -->\n";

}  // namespace tandem::testing
