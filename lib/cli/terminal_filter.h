#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace atelier::cli {

/// Removes from text what could drive a terminal, so that a model's output cannot: C0 controls except newline and tab,
/// DEL, C1 controls, escape sequences as a whole (ESC x, CSI, OSC, DCS, SOS, PM, APC; 7-bit or 8-bit as U+0080..9F),
/// and the characters that reorder text (U+202A..202E, U+2066..2069). Bytes that are not UTF-8 become U+FFFD. A
/// sequence that never ends is cut off by the next newline, so that it cannot swallow the rest of a reply.
///
/// Works byte by byte: however a text is cut into chunks, the same comes out.
/// Reference: ECMA-48, and https://vt100.net/emu/dec_ansi_parser for the states.
class TerminalFilter {
 public:
  std::string feed(std::string_view chunk);
  /// The end of the text: an unfinished character becomes U+FFFD, an unfinished sequence is dropped.
  std::string finish();

 private:
  enum class State : std::uint8_t { ground, escape, escape_intermediate, csi, string };

  void byte(unsigned char b, std::string& out);
  void character(char32_t c, std::string& out);
  void ground(char32_t c, std::string& out);
  void after_escape(char32_t c, std::string& out);
  void in_csi(char32_t c, std::string& out);
  void in_string(char32_t c, std::string& out);

  State state_ = State::ground;
  bool string_escape_ = false;  ///< inside a string, ESC was seen: perhaps ST
  char32_t partial_ = 0;        ///< bits of an unfinished UTF-8 character
  int needed_ = 0;              ///< bytes that it still lacks
  char32_t low_ = 0;            ///< smallest character that its length may hold
};

}  // namespace atelier::cli
