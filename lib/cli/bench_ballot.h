#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace atelier::cli {

/// What people choose between: one way of making pictures.
struct Contestant {
  std::string name;
  std::vector<std::pair<std::string, std::string>> pictures;  ///< what it shows (the same of all contestants), file
};

/// One question: two contestants' pictures of the same thing.
struct BallotPair {
  std::size_t left = 0, right = 0;  ///< contestants
  std::string subject, caption, left_file, right_file;
};

/// The contestants of `folders`: each a folder of pictures, which are matched by name, or alone the output of a comparison, whose rows
/// are matched by prompt and seed. Error(data) where there are fewer than two, or no picture in common; Error(no_input).
std::vector<Contestant> read_contestants(const std::vector<std::string>& folders);

/// `count` of all possible questions, or all where there are fewer, in random order and with random sides; the pairs of contestants
/// come equally often, as far as that can be.
std::vector<BallotPair> draw_pairs(const std::vector<Contestant>& contestants, std::size_t count, std::uint64_t seed);

/// A page that asks them, without a server and without a word of who made what; it offers the answers as a file of JSON Lines:
/// {"page","pair","left","right","choice":"left|right|tie","voter","seconds"}. `ids`: what it calls the contestants.
std::string ballot_page(const std::string& page_id, const std::vector<std::string>& ids,
                        const std::vector<BallotPair>& pairs);

}  // namespace atelier::cli
