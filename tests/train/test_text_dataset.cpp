// Datasets: order, packing, length limits, and files that change.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "train/text/dataset.h"

#include "row_options.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using namespace atelier::train::text_data;
using base::ExitCode;
using test::contains;
using test::error_of;
using test::row_options;

/// Rows of 1 to `spread` words behind the row's number.
std::string rows_text(int count, int spread = 9) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    std::string words = fmt::format("{}", 1000 + i);
    for (int w = 0; w <= i * 7 % spread; ++w) words += " red";
    text += fmt::format("{{\"text\":\"{}\"}}\n", words);
  }
  return text;
}

struct Folder {
  test::Scratch scratch;
  std::string put(const std::string& text) const {
    test::put_file(scratch.file("data.jsonl"), text);
    return scratch.file("data.jsonl");
  }
};

/// The rows of each batch of an epoch, as their text.
std::vector<std::vector<std::string>> epoch_of(Dataset& data, std::int64_t epoch) {
  std::vector<std::vector<std::string>> batches;
  for (std::int64_t i = 0; i < data.batches(); ++i) {
    batches.emplace_back();
    for (const Example& example : data.batch(epoch, i))
      batches.back().push_back(row_options().tokenizer->decode(example.tokens));
  }
  return batches;
}

std::multiset<std::string> flat(const std::vector<std::vector<std::string>>& batches) {
  std::multiset<std::string> all;
  for (const auto& batch : batches) all.insert(batch.begin(), batch.end());
  return all;
}

}  // namespace

TEST_CASE("every epoch has every row once, in an order that the seed and the epoch decide") {
  const Folder folder;
  const std::string path = folder.put("\xEF\xBB\xBF" + rows_text(23) + "\n  \n" + R"({"text":"last"})");
  for (const bool packing : {false, true})
    for (const bool grouped : {false, true}) {
      const DatasetOptions options{
          .max_tokens = 30, .packing = packing, .group_by_length = grouped, .batch_size = 4, .seed = 3};
      Dataset data(path, row_options(), options), again(path, row_options(), options);
      CHECK(data.report().rows == 24);
      const auto first = epoch_of(data, 0), second = epoch_of(data, 1);
      CHECK(flat(first).size() == 24);
      CHECK(flat(first) == flat(second));
      CHECK(first != second);
      CHECK(epoch_of(again, 1) == second);  // without having been through the first
      CHECK(epoch_of(data, 0) == first);
      auto other = options;
      other.seed = 4;
      Dataset another(path, row_options(), other);
      CHECK(epoch_of(another, 0) != first);
    }
}

TEST_CASE("without shuffling rows come in the file's order") {
  const Folder folder;
  Dataset data(folder.put(rows_text(5)), row_options(), {.shuffle = false, .batch_size = 2});
  const auto batches = epoch_of(data, 3);
  REQUIRE(batches.size() == 3);
  CHECK(batches[0][0].starts_with("1000"));
  CHECK(batches[2].size() == 1);
  CHECK(batches[2][0].starts_with("1004"));
}

TEST_CASE("packs hold whole rows, none is longer than the limit, and there are few of them") {
  const Folder folder;
  Dataset data(folder.put(rows_text(200)), row_options(), {.max_tokens = 40, .packing = true});
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < data.batches(); ++i) {
    std::int64_t pack = 0;
    for (const Example& example : data.batch(0, i)) pack += static_cast<std::int64_t>(example.tokens.size());
    CHECK(pack <= 40);
    tokens += pack;
  }
  CHECK(tokens == data.report().tokens);
  CHECK(data.report().sequences * 40 < tokens * 11 / 10);  // at least 10 of 11 places are filled
}

TEST_CASE("batches of like length: the lengths within a batch are neighbours of the sorted stretch") {
  const Folder folder;
  Dataset data(folder.put(rows_text(64, 30)), row_options(), {.group_by_length = true, .batch_size = 8});
  std::int64_t spread = 0;
  for (std::int64_t i = 0; i < data.batches(); ++i) {
    std::size_t least = SIZE_MAX, most = 0;
    for (const Example& example : data.batch(0, i)) {
      least = std::min(least, example.tokens.size());
      most = std::max(most, example.tokens.size());
    }
    spread += static_cast<std::int64_t>(most - least);
  }
  CHECK(spread <= 40);  // of 30 in all, over 8 batches
}

TEST_CASE("rows over the limit are cut, left out or refused, and counted") {
  const Folder folder;
  const std::string path = folder.put(rows_text(10));
  Dataset cut(path, row_options(), {.max_tokens = 8});
  const std::int64_t longer = cut.report().too_long;
  CHECK(longer > 0);
  CHECK(cut.report().kept == 10);
  CHECK(cut.report().length_at(1) > 8);
  for (std::int64_t i = 0; i < cut.batches(); ++i) CHECK(cut.batch(0, i)[0].tokens.size() <= 8);
  Dataset dropped(path, row_options(), {.max_tokens = 8, .on_long = OnLong::drop});
  CHECK(dropped.report().kept == 10 - longer);
  CHECK(dropped.report().dropped == longer);
  CHECK(contains(
      error_of(ExitCode::data, [&] { Dataset(path, row_options(), {.max_tokens = 8, .on_long = OnLong::error}); }),
      "and --max-seq-len is 8"));
  CHECK(contains(
      error_of(ExitCode::data, [&] { Dataset(path, row_options(), {.max_tokens = 2, .on_long = OnLong::drop}); }),
      "none is left"));
}

TEST_CASE("a row whose supervised part is cut off whole is left out") {
  const Folder folder;
  const std::string path = folder.put(
      "{\"prompt\":\"a red circle a red circle a red circle\",\"completion\":\"b\"}\n"
      "{\"prompt\":\"a\",\"completion\":\"b\"}\n");
  Dataset data(path, row_options(), {.max_tokens = 8});
  CHECK(data.report().kept == 1);
  CHECK(data.report().dropped == 1);
}

TEST_CASE("missing files, folders, empty files and files that change") {
  const Folder folder;
  error_of(ExitCode::no_input, [&] { Dataset(folder.scratch.file("none"), row_options(), {}); });
  CHECK(contains(error_of(ExitCode::no_input, [&] { Dataset(folder.scratch.path().native(), row_options(), {}); }),
                 "not a file"));
  CHECK(contains(error_of(ExitCode::no_input, [&] { Dataset("-", row_options(), {}); }), "not a file"));
  CHECK(contains(error_of(ExitCode::data, [&] { Dataset(folder.put("\n"), row_options(), {}); }), "no rows"));
  CHECK(contains(error_of(ExitCode::data, [&] { Dataset(folder.put(rows_text(3) + "{}\n"), row_options(), {}); }),
                 "line 4: "));
  const std::string path = folder.put(rows_text(3));
  Dataset data(path, row_options(), {});
  {
    std::ofstream changed(path, std::ios::in | std::ios::out);
    changed << "{\"text\":\"abc def ghi jkl mno pqr\"}\n";
  }
  CHECK(contains(error_of(ExitCode::data, [&] { epoch_of(data, 0); }), ""));
  CHECK(error_of(ExitCode::data, [&] { epoch_of(data, 0); }) != "(no error)");
}

TEST_CASE("the report counts what the rows hold") {
  const Folder folder;
  Dataset data(folder.put("{\"prompt\":\"a\",\"completion\":\"a\"}\n{\"prompt\":\"a a a\",\"completion\":\"a a\"}\n"),
               row_options(), {});
  const base::Json report = data.report().json();
  CHECK(report["kind"] == "prompt/completion");
  CHECK(report["rows"] == 2);
  CHECK(report["end_of_texts"] == 2);
  CHECK(report["supervised_tokens"] == 2 + 3);
  CHECK(report["tokens"] == 4 + 7);
  CHECK(report["lengths"]["min"] == 4);
  CHECK(report["lengths"]["max"] == 7);
}
