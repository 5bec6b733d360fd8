// sd-bench speed as its users see it.
#include "image_tools/bench.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

Result speed(const std::vector<std::string>& more) {
  std::vector<std::string> args{"speed", "--model", tiny_model("sd15"), "-W", "32",
                                "-H",    "24",      "--steps",          "3",  "--quiet"};
  args.insert(args.end(), more.begin(), more.end());
  return bench(args);
}

}  // namespace

TEST_CASE("every stage is timed apart, for each number format and batch size") {
  const Result r =
      speed({"--dtypes", "fp32", "bf16", "--batch-sizes", "1", "3", "--runs", "3", "--warmup", "1", "--json"});
  CAPTURE(r.err);
  REQUIRE(r.code == 0);
  const auto records = json_lines(r.out);
  REQUIRE(records.size() == 4);
  CHECK(records[0]["dtype"] == "fp32");
  CHECK(records[3]["dtype"] == "bf16");
  CHECK(records[3]["batch_size"] == 3);
  for (const Json& record : records) {
    CHECK(record["runs"] == 3);
    CHECK(record["timings"]["step_s"]["n"] == 3 * record["evaluations"].get<int>());
    CHECK(record["timings"]["batch_s"]["n"] == 3);
    double parts = 0;
    for (const char* stage : {"text_s", "vae_s"}) parts += record["timings"][stage]["median"].get<double>();
    CHECK(parts > 0);
    CHECK(parts < record["timings"]["batch_s"]["median"].get<double>());
    CHECK(record["timings"]["load_s"]["median"].get<double>() > 0);
    CHECK(record["memory"]["process_bytes"].get<std::uint64_t>() >
          record["memory"]["allocator_bytes"].get<std::uint64_t>());
    CHECK(record["threads"] == 1);
    CHECK(!record["machine"]["libtorch"].get<std::string>().empty());
    CHECK(record.contains("energy"));
  }
  // Three pictures at once need more memory than one.
  CHECK(records[1]["memory"]["allocator_bytes"].get<std::uint64_t>() >
        records[0]["memory"]["allocator_bytes"].get<std::uint64_t>());
}

TEST_CASE("without --json it is a table; --plan measures nothing") {
  const Result table = speed({"--runs", "1", "--warmup", "0"});
  CHECK(table.code == 0);
  CHECK(table.out_lines().size() == 3);
  CHECK(table.out.starts_with("| Dtype | Batch |"));
  const Result plan = speed({"--plan", "--batch-sizes", "1", "4"});
  CHECK(plan.code == 0);
  CHECK(json_lines(plan.out)[0]["model"]["family"] == "sd1");
  CHECK(speed({"--max-ram", "100K"}).code == 71);
  CHECK(speed({"--dtypes", "fp33"}).code == 64);
  CHECK(speed({"--batch-sizes", "0"}).code == 64);
  CHECK(speed({"--sampler", "no-such"}).code == 64);
  CHECK(bench({"speed", "--model", "/nonexistent"}).code == 66);
}
