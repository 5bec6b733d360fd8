#include "image/vector/svg_values.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "image/vector/numbers.h"

namespace atelier::image {
namespace {

Transform rotation(double degrees) {
  const double angle = degrees * std::numbers::pi / 180;
  return {std::cos(angle), std::sin(angle), -std::sin(angle), std::cos(angle), 0, 0};
}

Transform translation(double x, double y) { return {1, 0, 0, 1, x, y}; }

double tangent(double degrees) { return std::tan(degrees * std::numbers::pi / 180); }

std::optional<Transform> one_transform(std::string_view name, const std::vector<double>& n) {
  const std::size_t count = n.size();
  if (name == "matrix" && count == 6) return Transform{n[0], n[1], n[2], n[3], n[4], n[5]};
  if (name == "translate" && (count == 1 || count == 2)) return translation(n[0], count == 2 ? n[1] : 0);
  if (name == "scale" && (count == 1 || count == 2)) return Transform{n[0], 0, 0, n[count - 1], 0, 0};
  if (name == "rotate" && count == 1) return rotation(n[0]);
  if (name == "rotate" && count == 3) return translation(n[1], n[2]) * rotation(n[0]) * translation(-n[1], -n[2]);
  if (name == "skewX" && count == 1) return Transform{1, 0, tangent(n[0]), 1, 0, 0};
  if (name == "skewY" && count == 1) return Transform{1, tangent(n[0]), 0, 1, 0, 0};
  return std::nullopt;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

double luminance(double r, double g, double b) { return (0.299 * r + 0.587 * g + 0.114 * b) / 255; }

std::optional<double> hex_colour(std::string_view digits, double& alpha) {
  const bool brief = digits.size() == 3 || digits.size() == 4;
  if (!brief && digits.size() != 6 && digits.size() != 8) return std::nullopt;
  std::array<double, 4> channels = {0, 0, 0, 255};
  const std::size_t step = brief ? 1 : 2;
  for (std::size_t i = 0; i * step < digits.size(); ++i) {
    const int high = hex_digit(digits[i * step]), low = hex_digit(digits[i * step + step - 1]);
    if (high < 0 || low < 0) return std::nullopt;
    channels[i] = 16 * high + low;
  }
  alpha *= channels[3] / 255;
  return luminance(channels[0], channels[1], channels[2]);
}

// rgb(255, 0, 0), rgb(100% 0% 0%), rgba(0,0,0,.5)
std::optional<double> functional_colour(std::string_view text, double& alpha) {
  const std::size_t open = text.find('('), close = text.find(')');
  if (close == std::string_view::npos || close < open || close + 1 != text.size()) return std::nullopt;
  NumberReader reader(text.substr(open + 1, close - open - 1));
  std::array<double, 4> n = {0, 0, 0, 1};
  std::size_t count = 0;
  for (reader.skip_blanks(); !reader.done(); ++count) {
    const std::optional<double> value = reader.number();
    if (!value || count == 4) return std::nullopt;
    const bool percent = reader.rest().starts_with('%');
    if (percent) reader.drop(1);
    const double full = count < 3 ? 255 : 1;
    n[count] = std::clamp(percent ? *value / 100 * full : *value, 0.0, full);
    reader.skip_separator();
    if (reader.rest().starts_with('/')) reader.drop(1);
    reader.skip_blanks();
  }
  if (count < 3) return std::nullopt;
  alpha *= n[3];
  return luminance(n[0], n[1], n[2]);
}

struct NamedColour {
  std::string_view name;
  std::string_view hex;
};
constexpr NamedColour kNamed[] = {
    {"black", "000000"},     {"silver", "c0c0c0"},    {"gray", "808080"},    {"grey", "808080"},
    {"white", "ffffff"},     {"maroon", "800000"},    {"red", "ff0000"},     {"purple", "800080"},
    {"fuchsia", "ff00ff"},   {"green", "008000"},     {"lime", "00ff00"},    {"olive", "808000"},
    {"yellow", "ffff00"},    {"navy", "000080"},      {"blue", "0000ff"},    {"teal", "008080"},
    {"aqua", "00ffff"},      {"cyan", "00ffff"},      {"magenta", "ff00ff"}, {"orange", "ffa500"},
    {"pink", "ffc0cb"},      {"brown", "a52a2a"},     {"gold", "ffd700"},    {"darkgray", "a9a9a9"},
    {"darkgrey", "a9a9a9"},  {"dimgray", "696969"},   {"dimgrey", "696969"}, {"lightgray", "d3d3d3"},
    {"lightgrey", "d3d3d3"}, {"whitesmoke", "f5f5f5"}};

// Walks path data: the letter of a command, then its numbers as often as they come.
class PathData {
 public:
  PathData(std::string_view text, PathBuilder& builder) : reader_(text), builder_(builder) {}

  bool parse() {
    reader_.skip_blanks();
    bool first = true;
    while (!reader_.done()) {
      const char letter = reader_.rest().front();
      const char upper = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
      if (std::string_view("MLHVCSQTAZ").find(upper) == std::string_view::npos || (first && upper != 'M')) return false;
      reader_.drop(1);
      reader_.skip_blanks();
      first = false;
      relative_ = letter != upper;
      if (!command(upper)) return false;
    }
    return true;
  }

 private:
  bool command(char letter) {
    if (letter == 'Z') {
      builder_.close();
      previous_ = 'Z';
      return true;
    }
    do {
      if (!segment(letter)) return false;
      previous_ = letter;
      if (letter == 'M') letter = 'L';  // further pairs of a move are lines
      reader_.skip_separator();
    } while (!reader_.done() && std::isalpha(static_cast<unsigned char>(reader_.rest().front())) == 0);
    return true;
  }

  bool segment(char letter) {
    const Point from = builder_.current();
    const Point base = relative_ ? from : Point{};
    switch (letter) {
      case 'M': return pair(base, a_) && (builder_.move(a_), true);
      case 'L': return pair(base, a_) && (builder_.line(a_), true);
      case 'H': return number(a_.x) && (builder_.line({base.x + a_.x, from.y}), true);
      case 'V': return number(a_.y) && (builder_.line({from.x, base.y + a_.y}), true);
      case 'C':
        if (!pair(base, a_) || !pair(base, control_) || !pair(base, b_)) return false;
        builder_.cubic(a_, control_, b_);
        return true;
      case 'S':
        a_ = reflected(from, previous_ == 'C' || previous_ == 'S');
        if (!pair(base, control_) || !pair(base, b_)) return false;
        builder_.cubic(a_, control_, b_);
        return true;
      case 'Q':
        if (!pair(base, control_) || !pair(base, b_)) return false;
        builder_.quadratic(control_, b_);
        return true;
      case 'T':
        control_ = reflected(from, previous_ == 'Q' || previous_ == 'T');
        if (!pair(base, b_)) return false;
        builder_.quadratic(control_, b_);
        return true;
      default: return arc(base);
    }
  }

  bool arc(Point base) {
    double rotation = 0;
    if (!number(a_.x) || !number(a_.y) || !number(rotation)) return false;
    const std::optional<bool> large = reader_.flag();
    reader_.skip_separator();
    const std::optional<bool> sweep = reader_.flag();
    reader_.skip_separator();
    if (!large || !sweep || !pair(base, b_)) return false;
    builder_.arc(a_.x, a_.y, rotation, *large, *sweep, b_);
    return true;
  }

  Point reflected(Point from, bool curve_before) const {
    return curve_before ? Point{2 * from.x - control_.x, 2 * from.y - control_.y} : from;
  }

  bool number(double& to) {
    const std::optional<double> value = reader_.number();
    if (value) to = *value;
    reader_.skip_separator();
    return value.has_value();
  }

  bool pair(Point base, Point& to) {
    Point p;
    if (!number(p.x) || !number(p.y)) return false;
    to = {base.x + p.x, base.y + p.y};
    // Relative steps add up; what fill_path turns into lines must stay far below what an integer holds.
    return std::abs(to.x) <= 1e12 && std::abs(to.y) <= 1e12;
  }

  NumberReader reader_;
  PathBuilder& builder_;
  Point a_, b_, control_;
  char previous_ = 0;
  bool relative_ = false;
};

}  // namespace

std::optional<Transform> parse_transform(std::string_view text) {
  Transform result;
  for (text = trim(text); !text.empty();) {
    const std::size_t open = text.find('('), close = text.find(')');
    if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
    std::vector<double> numbers;
    NumberReader reader(text.substr(open + 1, close - open - 1));
    for (reader.skip_blanks(); !reader.done(); reader.skip_separator()) {
      const std::optional<double> value = reader.number();
      if (!value || numbers.size() == 6) return std::nullopt;
      numbers.push_back(*value);
    }
    const std::optional<Transform> one = one_transform(trim(text.substr(0, open)), numbers);
    if (!one) return std::nullopt;
    result = result * *one;
    NumberReader rest(text.substr(close + 1));
    rest.skip_separator();
    text = rest.rest();
  }
  return result;
}

std::optional<double> parse_length(std::string_view text, double whole) {
  NumberReader reader(trim(text));
  const std::optional<double> value = reader.number();
  if (!value) return std::nullopt;
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},           {"px", 1},  {"pt", 96.0 / 72}, {"pc", 16}, {"mm", 96 / 25.4},
      {"cm", 96 / 2.54}, {"in", 96}, {"em", 16},        {"ex", 8},  {"rem", 16}};
  if (reader.rest() == "%") return *value * whole / 100;
  for (const auto& [unit, size] : kUnits) {
    if (reader.rest() == unit) return *value * size;
  }
  return std::nullopt;
}

std::optional<double> parse_colour(std::string_view text, double& alpha) {
  std::string lower(trim(text));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.starts_with('#')) return hex_colour(std::string_view(lower).substr(1), alpha);
  if (lower.starts_with("rgb(") || lower.starts_with("rgba(")) return functional_colour(lower, alpha);
  for (const NamedColour& named : kNamed) {
    if (lower == named.name) return hex_colour(named.hex, alpha);
  }
  return std::nullopt;
}

bool parse_path_data(std::string_view text, PathBuilder& builder) { return PathData(text, builder).parse(); }

bool parse_points(std::string_view text, PathBuilder& builder) {
  NumberReader reader(text);
  bool first = true;
  for (reader.skip_blanks(); !reader.done(); reader.skip_separator()) {
    const std::optional<double> x = reader.number();
    reader.skip_separator();
    const std::optional<double> y = reader.number();
    if (!x || !y) return false;
    if (first) builder.move({*x, *y});
    if (!first) builder.line({*x, *y});
    first = false;
  }
  return true;
}

}  // namespace atelier::image
