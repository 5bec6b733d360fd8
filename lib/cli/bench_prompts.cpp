#include "cli/bench_prompts.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/text_lines.h"
#include "text/utf8.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t kMaxBytes = 64u << 20;

/// The first of these keys that is there.
const Json* find_any(const Json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (const auto found = object.find(key); found != object.end() && !found->is_null()) return &*found;
  return nullptr;
}

BenchPrompt parse_line(const std::string& line, const std::string& where) {
  const Json object = base::parse_json(line, where);
  if (!object.is_object()) throw Error(ExitCode::data, where + ": not a JSON object");
  const Json* text = find_any(object, {"prompt", "text", "caption"});
  if (text == nullptr || !text->is_string()) throw Error(ExitCode::data, where + ": no \"prompt\" that is a text");
  BenchPrompt prompt;
  prompt.text = text->get<std::string>();
  if (const Json* file = find_any(object, {"file", "path", "file_name"})) {
    if (!file->is_string()) throw Error(ExitCode::data, where + ": the picture's name is no text");
    prompt.file = std::filesystem::path(file->get<std::string>()).filename().string();
  }
  if (const Json* seed = find_any(object, {"seed"})) {
    if (!seed->is_number_unsigned()) throw Error(ExitCode::data, where + ": \"seed\" is not a whole number from 0 on");
    prompt.seed = seed->get<std::uint64_t>();
  }
  return prompt;
}

}  // namespace

std::vector<BenchPrompt> read_prompts(const std::string& path) {
  const bool json = std::filesystem::path(path).extension() == ".jsonl";
  std::vector<BenchPrompt> prompts;
  for_each_line(path, kMaxBytes, [&](const std::string& line, const std::string& where) {
    if (!text::is_utf8(line)) throw Error(ExitCode::data, where + " is not valid UTF-8");
    prompts.push_back(json ? parse_line(line, where) : BenchPrompt{line, {}, {}});
  });
  if (prompts.empty()) throw Error(ExitCode::data, path + ": there is no prompt in it");
  return prompts;
}

std::vector<metrics::Captioned> with_prompts(const std::string& folder, const std::string& path) {
  const metrics::PictureSet set = metrics::list_pictures(folder);
  std::vector<std::string> files = set.files;
  for (const auto& [file, reason] : set.unreadable) files.push_back(file);
  std::ranges::sort(files);
  const auto prompts = read_prompts(path);
  std::vector<metrics::Captioned> pairs;
  if (prompts.front().file.empty()) {
    if (prompts.size() != files.size())
      throw Error(ExitCode::data,
                  fmt::format("{} has {} pictures, {} has {} prompts", folder, files.size(), path, prompts.size()),
                  "prompts belong to the pictures in the order of their names; a .jsonl file can name them: {\"file\", "
                  "\"prompt\"}");
    for (std::size_t i = 0; i < files.size(); ++i) pairs.push_back({files[i], prompts[i].text});
    return pairs;
  }
  std::map<std::string, const BenchPrompt*> by_name;
  for (const BenchPrompt& prompt : prompts)
    if (!by_name.emplace(prompt.file, &prompt).second)
      throw Error(ExitCode::data, fmt::format("{}: two prompts for {}", path, base::in_quotes(prompt.file)));
  for (const std::string& file : files) {
    const auto found = by_name.find(std::filesystem::path(file).filename().string());
    if (found == by_name.end()) throw Error(ExitCode::data, fmt::format("{}: no prompt for {}", path, file));
    pairs.push_back({file, found->second->text});
    by_name.erase(found);
  }
  if (!by_name.empty())
    throw Error(ExitCode::data, fmt::format("{}: {} of its pictures are not in {}, {} the first", path, by_name.size(),
                                            folder, base::in_quotes(by_name.begin()->first)));
  return pairs;
}

}  // namespace atelier::cli
