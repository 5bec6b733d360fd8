#pragma once

#include <optional>
#include <string_view>

namespace atelier::image {

/// Within the room: reads numbers from the front of a text, as SVG writes them.
class NumberReader {
 public:
  explicit NumberReader(std::string_view text) : rest_(text) {}

  /// Blanks, then at most one comma, then blanks.
  void skip_separator();
  void skip_blanks();
  /// "-1.5e3", ".5", "5.", "+1"; nothing where there is none, or one above 1e9 in size.
  std::optional<double> number();
  /// 0 or 1, which may touch what follows (arc flags).
  std::optional<bool> flag();
  bool done() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  void drop(std::size_t count) { rest_.remove_prefix(count); }

 private:
  std::string_view rest_;
};

bool is_blank(char c);
std::string_view trim(std::string_view text);
/// The whole text is one number.
std::optional<double> parse_number(std::string_view text);

}  // namespace atelier::image
