#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace atelier::cli {

/// A finite number from `low` to `high` ("nan" and "inf" are refused, which CLI::Range lets through).
CLI::Validator in_range(double low, double high);
/// A decimal whole number from `low` to `high`: no octal, no hexadecimal, no blanks.
CLI::Validator whole_in_range(long long low, long long high);
/// One of the given words; they also become the completions of the flag.
CLI::Validator one_of(std::vector<std::string> choices);
/// auto, cpu, cuda or cuda:N.
CLI::Validator device_name();
/// What base::parse_bytes reads: 4G, 512M, 1.5GiB.
CLI::Validator byte_size();

/// The words that a flag accepts, read from its type description "{a,b}"; empty where it is free.
std::vector<std::string> choices_of(const CLI::Option& option);

/// Makes every flag strict, whichever way it was added: numbers must be whole decimal numbers or finite decimal
/// fractions (CLI11 reads "" as 0, "010" as 8, and "nan"), lists take one value per mention and do not split "[a,b]",
/// and the last mention of a single-valued flag counts.
void harden(CLI::App& app);

}  // namespace atelier::cli
