#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::image {

/// Within the room: reads the tags of an XML document one after the other; text between them is passed over. No
/// entities but XML's own five and character references, no internal subsets, nothing from outside the file. Throws
/// Error(data) naming file and line.
class XmlReader {
 public:
  struct Attribute {
    std::string_view name;
    std::string value;
  };

  XmlReader(std::string_view text, std::string name);

  /// Moves to the next tag; false at the end of the document. An empty element `<a/>` gives a start and an end.
  bool next();

  bool is_start() const { return is_start_; }
  std::string_view name() const { return name_; }
  const std::vector<Attribute>& attributes() const { return attributes_; }
  /// The value of an attribute, or null.
  const std::string* find(std::string_view name) const;
  /// Elements that are open, the current one included.
  std::size_t depth() const { return open_.size(); }
  /// "FILE:LINE: why" as Error(data).
  [[noreturn]] void fail(const std::string& why) const;

 private:
  [[noreturn]] void fail_at(std::size_t at, const std::string& why) const;
  bool at(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  void skip_past(std::string_view end, const char* what);
  void skip_doctype();
  void skip_blanks();
  std::string_view read_name();
  void read_start();
  void read_end();
  void read_attribute();
  std::string decoded(std::string_view raw, std::size_t position) const;

  std::string_view text_;
  std::string file_;
  std::size_t at_ = 0, tag_at_ = 0;
  std::vector<std::string_view> open_;
  std::vector<Attribute> attributes_;
  std::string_view name_;
  bool is_start_ = false, pending_end_ = false, close_ = false, seen_root_ = false;
};

}  // namespace atelier::image
