// Drives lib/text/constraint without a model: one JSON object per line on stdin, one per line on stdout.
//   {"schema"|"regex": ..., "text": "..."}          -> {"accepted": true}: the text, byte by byte
//   {"schema"|"regex": ..., "seed": 1, "budget": 99} -> {"text": "...", "tokens": 12}: drawn at random
// An error is {"error": "...", "code": 65}. Used by scripts/check-schemas.
#include <iostream>
#include <string>

#include "base/error.h"
#include "constraint/drawing.h"

using namespace atelier;
using base::Json;

namespace {

Json answer(const Json& line) {
  static const auto pieces = test::made_up_vocabulary(4000, 1);
  static const auto bytes = test::byte_vocabulary();
  const bool check = line.contains("text");
  const auto vocabulary = check ? bytes : pieces;
  const auto constraint = line.contains("regex")
                              ? text::constraint::Constraint::regex(vocabulary, line["regex"].get<std::string>())
                              : text::constraint::Constraint::json_schema(vocabulary, line["schema"], "schema");
  if (check) return {{"accepted", test::accepts(constraint, line["text"].get<std::string>())}};
  const test::Drawn drawn = test::draw(constraint, line.value("seed", 0), line.value("budget", 200));
  return {{"text", drawn.text}, {"tokens", drawn.tokens}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    Json result;
    try {
      result = answer(base::parse_json(line, "line"));
    } catch (const base::Error& error) {
      result = {{"error", error.what()}, {"code", static_cast<int>(error.code())}};
    }
    std::cout << base::dump_json(result) << "\n" << std::flush;
  }
}
