#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace atelier::cli {

/// The command line as CLI11 parses it safely, in order. Checks that every flag exists and has its value, and settles
/// what CLI11 would read otherwise: `--name=` is an empty value, a value may start with '-' (`--prompt=-5`, `-p "-5
/// degrees"`), a single dash before a long name is refused with a hint. `args` excludes the program's name.
/// Error(usage) naming the flag and the nearest right one.
std::vector<std::string> normalise_arguments(CLI::App& app, const std::vector<std::string>& args);

/// Runs normalise_arguments and the parser; every failure of CLI11's is an Error(usage) (missing files: no_input).
void parse_arguments(CLI::App& app, const std::vector<std::string>& args);

/// The same for arguments that are already normal (a job's).
void parse_normalised(CLI::App& app, std::vector<std::string> args);

/// Long names of all flags, without dashes.
std::vector<std::string> long_names(const CLI::App& app);

/// `did you mean "..."?` for a mistyped word, or "": a unique continuation of `word`, else the nearest candidate;
/// `prefix` ("--") is put before it.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         std::string_view prefix = "");

/// Whether the flag takes no value.
bool is_flag(const CLI::Option& option);

/// The end of the type name of a flag that takes all words up to the next flag (add_words).
inline constexpr std::string_view kManyWords = "...";
bool takes_many_words(const CLI::Option& option);

}  // namespace atelier::cli
