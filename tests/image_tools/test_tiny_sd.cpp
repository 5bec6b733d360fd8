// The picture model that ships: used where no --model is given, and it draws what a prompt says.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numbers>

#include "image/image.h"
#include "image/read.h"
#include "image_tools/models.h"
#include "io/file_system.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

/// What is seen in one cell of the 3 x 3 grid.
struct Part {
  std::string colour, position;
  double share = 0;  ///< of the picture's pixels
};

struct Seen {
  std::string background;
  std::vector<Part> parts;  ///< the largest first
};

using Colour = std::array<double, 3>;  ///< 0 to 1

double distance_between(const Colour& a, const Colour& b) {
  return std::sqrt(std::pow(a[0] - b[0], 2) + std::pow(a[1] - b[1], 2) + std::pow(a[2] - b[2], 2));
}

Colour colour_at(const image::Image& picture, int x, int y) {
  const auto* p = picture.at(x, y);
  return {p[0] / 255.0, p[1] / 255.0, p[2] / 255.0};
}

/// scripts/tiny_models/draw.py measures in the same way: the ground is the median of the border, everything that differs from
/// it clearly belongs to a shape, and what a cell shows is the commonest of the palette's colours there.
class Measure {
 public:
  explicit Measure(const Json& palette) {
    for (const auto& [name, rgb] : palette.items())
      palette_.emplace_back(name,
                            Colour{rgb[0].get<double>() / 255, rgb[1].get<double>() / 255, rgb[2].get<double>() / 255});
  }

  Seen operator()(const image::Image& picture) const {
    const Colour ground = median_of_border(picture);
    std::array<std::map<std::string, int>, 9> counts;
    for (int y = 0; y < picture.height; ++y)
      for (int x = 0; x < picture.width; ++x) {
        const Colour colour = colour_at(picture, x, y);
        const auto cell = static_cast<std::size_t>(y * 3 / picture.height * 3 + x * 3 / picture.width);
        if (distance_between(colour, ground) > 0.2) ++counts[cell][nearest(colour)];
      }
    constexpr std::array<const char*, 9> positions = {"top left", "top",         "top right", "left",        "centre",
                                                      "right",    "bottom left", "bottom",    "bottom right"};
    constexpr double small = 0.095;  // radius of the smallest shapes; half of the area of the thinnest one is the least
    const double least = 0.3 * std::numbers::pi * small * small * 0.5;
    Seen seen{nearest(ground), {}};
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const auto most = std::max_element(counts[i].begin(), counts[i].end(),
                                         [](const auto& a, const auto& b) { return a.second < b.second; });
      if (most == counts[i].end()) continue;
      const double share = most->second / (static_cast<double>(picture.width) * picture.height);
      if (share > least) seen.parts.push_back({most->first, positions[i], share});
    }
    std::stable_sort(seen.parts.begin(), seen.parts.end(),
                     [](const Part& a, const Part& b) { return a.share > b.share; });
    return seen;
  }

 private:
  std::string nearest(const Colour& colour) const {
    return std::min_element(palette_.begin(), palette_.end(),
                            [&](const auto& a, const auto& b) {
                              return distance_between(a.second, colour) < distance_between(b.second, colour);
                            })
        ->first;
  }

  static Colour median_of_border(const image::Image& picture) {
    const int edge = std::max(1, picture.width / 32);
    Colour median{};
    for (std::size_t c = 0; c < 3; ++c) {
      std::vector<double> values;
      for (int y = 0; y < picture.height; ++y)
        for (int x = 0; x < picture.width; ++x)
          if (std::min({x, y, picture.width - 1 - x, picture.height - 1 - y}) < edge)
            values.push_back(colour_at(picture, x, y)[c]);
      std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
      median[c] = values[values.size() / 2];
    }
    return median;
  }

  std::vector<std::pair<std::string, Colour>> palette_;
};

/// Whether background, colours and positions are what was asked for, as far as it was.
bool obeys(const Seen& seen, const Json& asked) {
  if (asked["background"].is_string() && seen.background != asked["background"]) return false;
  const std::size_t items = asked["items"].size();
  std::vector<std::string> wanted, found;
  for (const Json& item : asked["items"]) wanted.push_back(item["colour"].get<std::string>());
  for (std::size_t i = 0; i < std::min(items, seen.parts.size()); ++i) found.push_back(seen.parts[i].colour);
  std::sort(wanted.begin(), wanted.end());
  std::sort(found.begin(), found.end());
  if (wanted != found) return false;
  return std::all_of(asked["items"].begin(), asked["items"].end(), [&](const Json& item) {
    if (!item["position"].is_string()) return true;
    return std::any_of(
        seen.parts.begin(), seen.parts.begin() + static_cast<std::ptrdiff_t>(found.size()),
        [&](const Part& part) { return part.position == item["position"] && part.colour == item["colour"]; });
  });
}

const std::string kShipped = std::string(ATELIER_MODELS) + "/tiny-sd";

}  // namespace

TEST_CASE("measuring finds what was drawn") {
  const Measure measure(Json{{"red", {220, 40, 40}}, {"blue", {50, 90, 220}}, {"white", {245, 245, 245}}});
  image::Image picture(64, 64, 3);
  const auto paint = [&](int x0, int y0, int size, std::array<std::uint8_t, 3> colour) {
    for (int y = y0; y < y0 + size; ++y)
      for (int x = x0; x < x0 + size; ++x) std::copy(colour.begin(), colour.end(), picture.at(x, y));
  };
  paint(0, 0, 64, {240, 250, 240});
  paint(4, 4, 14, {215, 50, 40});
  paint(26, 26, 10, {60, 90, 210});
  const Seen seen = measure(picture);
  CHECK(seen.background == "white");
  REQUIRE(seen.parts.size() == 2);
  const auto item = [](const char* colour, const char* position) {
    return Json{{"colour", colour}, {"position", position == nullptr ? Json() : Json(position)}};
  };
  const auto asked = [&](const char* background, std::vector<Json> items) {
    return Json{{"background", background == nullptr ? Json() : Json(background)}, {"items", items}};
  };
  CHECK(obeys(seen, asked("white", {item("blue", "centre"), item("red", "top left")})));
  CHECK(obeys(seen, asked(nullptr, {item("red", nullptr)})));
  CHECK(!obeys(seen, asked("blue", {item("red", "top left")})));
  CHECK(!obeys(seen, asked("white", {item("red", "top")})));
  CHECK(!obeys(seen, asked("white", {item("blue", "top left"), item("red", "centre")})));
  CHECK(!obeys(seen, asked("white", {item("blue", nullptr), item("blue", nullptr)})));
}

TEST_CASE("with no --model the model that ships is used, in its own size, and stderr says so") {
  const TempFolder folder;
  const Result result = run({.program = tool("sd-txt2img"),
                             .args = {"-p", "a large red circle", "--steps", "2", "--json", "-o", folder.file("a.png")},
                             .env = {{"ATELIER_MODELS", ATELIER_MODELS}}});
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(contains(result.err, "no --model given, using the shipped tiny-sd"));
  const Json record = json_lines(result.out).at(0);
  const auto stages = base::read_json_file(kShipped + "/vae/config.json")["block_out_channels"].size();
  const int side = base::read_json_file(kShipped + "/unet/config.json")["sample_size"].get<int>() << (stages - 1);
  CHECK(record["width"] == side);
  CHECK(record["height"] == side);
  // The other tools too, and a folder without it is an error that says where to look.
  CHECK(run({.program = tool("sd-img2img"),
             .args = {"-p", "a red circle", "--init", folder.file("a.png"), "--steps", "4", "-o", folder.file("b.png")},
             .env = {{"ATELIER_MODELS", ATELIER_MODELS}}})
            .code == 0);
  CHECK(run({.program = tool("sd-inpaint"),
             .args = {"-p", "a red circle", "--init", folder.file("a.png"), "--mask-shape", "rect:8,8,24,24", "--steps",
                      "4", "-o", folder.file("c.png")},
             .env = {{"ATELIER_MODELS", ATELIER_MODELS}}})
            .code == 0);
}

TEST_CASE("of 20 prompts that it never saw, tiny-sd draws at least 17 with the right colours, places and ground") {
  const std::string data = ATELIER_TEST_DATA;
  const Measure measure(base::read_json_file(data + "/tiny-sd-palette.json"));
  const TempFolder folder;
  std::vector<Json> asked;
  std::string jobs;
  for (const std::string& line : lines_of(io::read_file(data + "/tiny-sd-eval.jsonl", 1 << 20))) {
    asked.push_back(base::parse_json(line, "tiny-sd-eval.jsonl"));
    jobs += Json{{"prompt", asked.back()["prompt"]},
                 {"seed", asked.back()["seed"]},
                 {"output", folder.file(std::to_string(asked.size()) + ".png")}}
                .dump() +
            "\n";
  }
  REQUIRE(asked.size() == 20);
  const Result result = run({.program = tool("sd-txt2img"),
                             .args = {"--model", kShipped, "--jobs", "-", "--quiet"},
                             .input = jobs,
                             .timeout = std::chrono::minutes(5)});
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  int right = 0;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Seen seen = measure(image::read_image(folder.file(std::to_string(i + 1) + ".png")));
    if (obeys(seen, asked[i])) {
      ++right;
      continue;
    }
    std::string parts;
    for (const Part& part : seen.parts) parts += " " + part.colour + " at " + part.position;
    MESSAGE(asked[i]["prompt"].get<std::string>() << ": on " << seen.background << parts);
  }
  CHECK(right >= 17);  // its card says 92 % of 200
}
