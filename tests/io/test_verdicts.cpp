// Replays tests/data/safetensors_verdicts.txt: 10,000 headers with the verdict of Python's safetensors on each, made by
// scripts/fixtures/safetensors_verdicts.py, which also describes the format.
//
// Atelier never reads a file that Python refuses. It refuses some that Python reads; these are all the reasons:
//   - a tensor or a metadata key that stands twice: Python silently keeps the last one;
//   - fields other than dtype, shape and data_offsets: Python ignores them;
//   - a tensor written as a list, a dtype written as an object, __metadata__ null: artefacts of Python's deserialiser
//     that the format's description does not know;
//   - shape numbers from 2^63 on (beside a 0) and more than 64 dimensions: no tensor of LibTorch can have them.
#include <array>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "base/error.h"
#include "io/safetensors.h"
#include "io/safetensors_file.h"

using namespace atelier::io;
using namespace atelier::test;

namespace {

struct Case {
  bool read = false;
  std::size_t data = 0;
  std::optional<std::uint64_t> length;  // where it is not the truth
  std::string header;
};

std::string expand(std::string_view text) {
  const std::map<char, std::string_view> strings{{'T', R"({"dtype":")"},         {'S', R"(","shape":[)"},
                                                 {'O', R"(],"data_offsets":[)"}, {'E', "]}"},
                                                 {'M', R"("__metadata__":)"},    {'~', "~"}};
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '~') {
      bytes += text[i];
    } else if (text.at(++i) == 'x') {
      bytes += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      bytes += strings.at(text[i]);
    }
  }
  return bytes;
}

Case read_case(const std::string& line) {
  Case result;
  result.read = line.at(0) == '+';
  const std::size_t blank = line.find(' ');
  const std::string numbers = line.substr(1, blank - 1);
  result.data = std::stoull(numbers);
  if (const std::size_t comma = numbers.find(','); comma != std::string::npos) {
    result.length = std::stoull(numbers.substr(comma + 1));
  }
  result.header = expand(std::string_view(line).substr(blank + 1));
  return result;
}

// Empty where the file is read.
std::string refusal(const Case& input) {
  try {
    parse_safetensors(as_bytes(safetensors_file(input.header, input.data, input.length)), "x");
    return "";
  } catch (const atelier::base::Error& error) {
    CHECK(error.code() == atelier::base::ExitCode::data);
    return error.what();
  }
}

}  // namespace

TEST_CASE("safetensors: the verdict of the Python library on 10,000 headers, but for the listed differences") {
  const std::array<std::string_view, 7> differences{
      "stands twice",           "has the unknown field", "is a list, expected an object",
      "dtype is an object",     "__metadata__ is null",  "expected an integer from 0 to 2^63-1",
      "more than 64 dimensions"};
  std::array<int, differences.size()> seen{};
  std::ifstream file(ATELIER_TEST_DATA "/safetensors_verdicts.txt");
  std::string line;
  REQUIRE(std::getline(file, line));
  int count = 0, both_read = 0;
  for (; std::getline(file, line); ++count) {
    const Case input = read_case(line);
    const std::string message = refusal(input);
    CAPTURE(line);
    CAPTURE(message);
    if (input.read == message.empty()) {
      both_read += input.read;
      continue;
    }
    CHECK(input.read);  // never the other way round
    bool listed = false;
    for (std::size_t i = 0; i < differences.size() && !listed; ++i) {
      listed = message.find(differences[i]) != std::string::npos;
      seen[i] += listed;
    }
    CHECK(listed);
  }
  CHECK(count == 10'000);
  CHECK(both_read > 2000);
  for (std::size_t i = 0; i < differences.size(); ++i) {
    CAPTURE(differences[i]);
    CHECK(seen[i] > 0);
  }
}
