#include "cli/terminal_filter.h"

namespace atelier::cli {

namespace {

constexpr char32_t kEscape = 0x1B, kBell = 0x07, kCancel = 0x18, kSubstitute = 0x1A;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool reorders_text(char32_t c) { return (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069); }
bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0); }

void append(std::string& out, char32_t c) {
  const auto put = [&out](char32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

}  // namespace

std::string TerminalFilter::feed(std::string_view chunk) {
  std::string out;
  out.reserve(chunk.size());
  for (const char c : chunk) byte(static_cast<unsigned char>(c), out);
  return out;
}

std::string TerminalFilter::finish() {
  std::string out;
  if (needed_ > 0 && state_ == State::ground) out = kReplacement;
  *this = TerminalFilter();
  return out;
}

// UTF-8 to characters. Anything malformed is one U+FFFD, which no sequence contains, so it also ends one.
void TerminalFilter::byte(unsigned char b, std::string& out) {
  if (needed_ > 0) {
    if ((b & 0xC0) == 0x80) {
      partial_ = partial_ << 6 | (b & 0x3F);
      if (--needed_ > 0) return;
      const bool valid = partial_ >= low_ && partial_ <= 0x10FFFF && (partial_ < 0xD800 || partial_ > 0xDFFF);
      return character(valid ? partial_ : 0xFFFD, out);
    }
    needed_ = 0;
    character(0xFFFD, out);
  }
  const auto begin = [this](char32_t bits, int more, char32_t low) { partial_ = bits, needed_ = more, low_ = low; };
  if (b < 0x80) {
    character(b, out);
  } else if (b >= 0xC2 && b < 0xE0) {
    begin(b & 0x1F, 1, 0x80);
  } else if (b >= 0xE0 && b < 0xF0) {
    begin(b & 0x0F, 2, 0x800);
  } else if (b >= 0xF0 && b < 0xF5) {
    begin(b & 0x07, 3, 0x10000);
  } else {
    character(0xFFFD, out);
  }
}

void TerminalFilter::character(char32_t c, std::string& out) {
  switch (state_) {
    case State::ground: return ground(c, out);
    case State::escape:
    case State::escape_intermediate: return after_escape(c, out);
    case State::csi: return in_csi(c, out);
    case State::string: return in_string(c, out);
  }
}

void TerminalFilter::ground(char32_t c, std::string& out) {
  state_ = State::ground;
  string_escape_ = false;
  switch (c) {
    case kEscape: state_ = State::escape; return;
    case 0x9B: state_ = State::csi; return;
    case 0x90:  // DCS
    case 0x98:  // SOS
    case 0x9D:  // OSC
    case 0x9E:  // PM
    case 0x9F:  // APC
      state_ = State::string;
      return;
    default: break;
  }
  if (c == '\n' || c == '\t' || (!is_control(c) && !reorders_text(c))) append(out, c);
}

void TerminalFilter::after_escape(char32_t c, std::string& out) {
  if (c >= 0x20 && c <= 0x2F) {
    state_ = State::escape_intermediate;
  } else if (state_ == State::escape && c == '[') {
    state_ = State::csi;
  } else if (state_ == State::escape && (c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_')) {
    state_ = State::string;
  } else if (c >= 0x30 && c <= 0x7E) {
    state_ = State::ground;
  } else {
    ground(c, out);
  }
}

void TerminalFilter::in_csi(char32_t c, std::string& out) {
  if (c >= 0x20 && c <= 0x3F) return;  // parameters and intermediates
  if (c >= 0x40 && c <= 0x7E) {
    state_ = State::ground;
    return;
  }
  ground(c, out);
}

void TerminalFilter::in_string(char32_t c, std::string& out) {
  if (c == '\n') return ground(c, out);
  if (string_escape_ && c != kEscape) {
    string_escape_ = false;
    if (c == '\\') {
      state_ = State::ground;
    } else {
      state_ = State::escape;  // not ST: another sequence begins
      after_escape(c, out);
    }
    return;
  }
  string_escape_ = c == kEscape;
  if (c == kBell || c == 0x9C || c == kCancel || c == kSubstitute) state_ = State::ground;
}

}  // namespace atelier::cli
