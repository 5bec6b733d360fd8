#include "image/vector/xml.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/encodings.h"
#include "image/vector/numbers.h"

namespace atelier::image {
namespace {

constexpr std::size_t kMaxDepth = 64, kMaxAttributes = 200;

bool ends_name(char c) { return is_blank(c) || c == '=' || c == '>' || c == '/' || c == '<' || c == '"' || c == '\''; }

std::string utf8_of(std::uint32_t c) {
  std::string units;
  const auto put = [&](std::uint32_t unit) {
    units += static_cast<char>(static_cast<unsigned char>(unit >> 8));
    units += static_cast<char>(static_cast<unsigned char>(unit & 0xFF));
  };
  if (c >= 0x10000) {
    put(0xD800 + ((c - 0x10000) >> 10));
    put(0xDC00 + ((c - 0x10000) & 0x3FF));
  } else {
    put(c);
  }
  return utf16_to_utf8(units, true);
}

}  // namespace

XmlReader::XmlReader(std::string_view text, std::string name) : text_(text), file_(std::move(name)) {
  if (at("\xEF\xBB\xBF")) at_ += 3;
  if (at("\xFF\xFE") || at("\xFE\xFF")) fail_at(0, "is UTF-16; only UTF-8 is read");
}

void XmlReader::fail_at(std::size_t position, const std::string& why) const {
  const auto line = 1 + std::count(text_.begin(),
                                   text_.begin() + static_cast<std::ptrdiff_t>(std::min(position, text_.size())), '\n');
  throw base::Error(base::ExitCode::data, fmt::format("{}:{}: {}", file_, line, why));
}

void XmlReader::fail(const std::string& why) const { fail_at(tag_at_, why); }

const std::string* XmlReader::find(std::string_view name) const {
  const auto found =
      std::find_if(attributes_.begin(), attributes_.end(), [&](const Attribute& a) { return a.name == name; });
  return found == attributes_.end() ? nullptr : &found->value;
}

void XmlReader::skip_past(std::string_view end, const char* what) {
  const std::size_t found = text_.find(end, at_);
  if (found == std::string_view::npos) fail_at(at_, fmt::format("{} does not end", what));
  at_ = found + end.size();
}

// <!DOCTYPE svg PUBLIC "..." "...">: its address is not looked at.
void XmlReader::skip_doctype() {
  const std::size_t end = text_.find_first_of("[>", at_);
  if (end == std::string_view::npos) fail_at(at_, "the document type does not end");
  if (text_[end] == '[') fail_at(at_, "declares entities or types of its own, which are not read");
  at_ = end + 1;
}

void XmlReader::skip_blanks() {
  while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
}

std::string_view XmlReader::read_name() {
  const std::size_t start = at_;
  while (at_ < text_.size() && !ends_name(text_[at_])) ++at_;
  if (at_ == start) fail_at(at_, "a name is missing");
  return text_.substr(start, at_ - start);
}

bool XmlReader::next() {
  if (close_) {
    open_.pop_back();
    close_ = false;
  }
  attributes_.clear();
  if (pending_end_) {
    pending_end_ = is_start_ = false;
    close_ = true;
    return true;
  }
  for (;;) {
    at_ = std::min(text_.find('<', at_), text_.size());
    tag_at_ = at_;
    if (at_ == text_.size()) {
      if (!open_.empty()) fail_at(at_, fmt::format("the document ends within <{}>", base::printable(open_.back())));
      if (!seen_root_) fail_at(0, "is no XML document");
      return false;
    }
    if (at("<!--")) {
      skip_past("-->", "a comment");
    } else if (at("<![CDATA[")) {
      skip_past("]]>", "a CDATA section");
    } else if (at("<?")) {
      skip_past("?>", "a processing instruction");
    } else if (at("<!")) {
      skip_doctype();
    } else if (at("</")) {
      read_end();
      return true;
    } else {
      read_start();
      return true;
    }
  }
}

void XmlReader::read_end() {
  at_ += 2;
  name_ = read_name();
  skip_blanks();
  if (!at(">")) fail_at(at_, "an end tag is malformed");
  ++at_;
  if (open_.empty() || open_.back() != name_)
    fail_at(tag_at_, fmt::format("</{}> ends nothing", base::printable(name_)));
  is_start_ = false;
  close_ = true;
}

void XmlReader::read_start() {
  ++at_;
  name_ = read_name();
  if (open_.empty() && seen_root_) fail_at(tag_at_, "a second element follows the document");
  for (;;) {
    skip_blanks();
    if (at_ >= text_.size()) fail_at(tag_at_, "a tag does not end");
    if (at(">") || at("/>")) break;
    read_attribute();
  }
  pending_end_ = at("/>");
  at_ += pending_end_ ? 2 : 1;
  open_.push_back(name_);
  if (open_.size() > kMaxDepth) fail_at(tag_at_, fmt::format("elements are nested more than {} deep", kMaxDepth));
  seen_root_ = is_start_ = true;
}

void XmlReader::read_attribute() {
  const std::string_view key = read_name();
  skip_blanks();
  if (!at("=")) fail_at(at_, fmt::format("attribute {} has no value", base::in_quotes(key)));
  ++at_;
  skip_blanks();
  const char quote = at_ < text_.size() ? text_[at_] : '\0';
  if (quote != '"' && quote != '\'')
    fail_at(at_, fmt::format("the value of attribute {} is not quoted", base::in_quotes(key)));
  const std::size_t start = ++at_;
  skip_past(std::string_view(&quote, 1), "a quoted value");
  const std::string_view raw = text_.substr(start, at_ - 1 - start);
  if (raw.find('<') != std::string_view::npos) fail_at(start, "a quoted value holds \"<\"");
  if (find(key) != nullptr) fail_at(start, fmt::format("attribute {} comes twice", base::in_quotes(key)));
  if (attributes_.size() >= kMaxAttributes) fail_at(start, "an element has too many attributes");
  attributes_.push_back({key, decoded(raw, start)});
}

std::string XmlReader::decoded(std::string_view raw, std::size_t position) const {
  std::string value;
  value.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '&') {
      value += raw[i];
      continue;
    }
    const std::size_t end = raw.find(';', i);
    const std::string_view entity = end == std::string_view::npos ? std::string_view() : raw.substr(i + 1, end - i - 1);
    std::uint32_t code = 0;
    if (entity == "lt") code = '<';
    if (entity == "gt") code = '>';
    if (entity == "amp") code = '&';
    if (entity == "quot") code = '"';
    if (entity == "apos") code = '\'';
    if (entity.starts_with('#') && entity.size() > 1) {
      const bool hex = entity[1] == 'x';
      const std::string_view digits = entity.substr(hex ? 2 : 1);
      const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, hex ? 16 : 10);
      if (error != std::errc() || stop != digits.data() + digits.size() || code > 0x10FFFF) code = 0;
    }
    if (code == 0) fail_at(position + i, "an entity is unknown or malformed");
    value += utf8_of(code);
    i = end;
  }
  return value;
}

}  // namespace atelier::image
