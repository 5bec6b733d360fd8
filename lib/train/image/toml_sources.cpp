// kohya's TOML: which keys there are, where they may stand, and what they mean here.
#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/toml.h"
#include "train/image/sources.h"

namespace atelier::train::image {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using base::JsonFields;

constexpr std::int64_t kMost = 1'000'000;
constexpr int kMaxSide = 1 << 15;

/// What stands in [general], [[datasets]] and [[datasets.subsets]].
enum Place : unsigned { general = 1, dataset = 2, subset = 4 };
constexpr unsigned anywhere = general | dataset | subset;

struct Key {
  std::string_view name;
  unsigned places;
  void (*set)(SourceDefaults& to, const JsonFields& fields, std::string_view key);
};

bool boolean(const JsonFields& f, std::string_view key) { return f.boolean_or(key, false); }

std::string text(const JsonFields& f, std::string_view key) {
  const Json* value = f.find(key);
  return value == nullptr ? std::string() : f.string(key);
}

double share(const JsonFields& f, std::string_view key) { return f.number(key, 0, 1); }

std::int64_t count(const JsonFields& f, std::string_view key, std::int64_t least) {
  return f.integer(key, least, kMost);
}

int side(const JsonFields& f, std::string_view key) { return static_cast<int>(f.integer(key, 8, kMaxSide)); }

/// 512 or [768, 512].
Size resolution(const JsonFields& f, std::string_view key) {
  const Json& value = *f.find(key);
  if (!value.is_array()) return {side(f, key), side(f, key)};
  const auto is_side = [](const Json& v) {
    return v.is_number_integer() && v.get<std::int64_t>() >= 8 && v.get<std::int64_t>() <= kMaxSide;
  };
  if (value.size() != 2 || !is_side(value[0]) || !is_side(value[1]))
    throw Error(ExitCode::data, fmt::format("{}: \"{}\" is {}, expected a side or [width, height]", f.what(), key,
                                            base::dump_json(value)));
  return {value[0].get<int>(), value[1].get<int>()};
}

constexpr Key kKeys[] = {
    {"resolution", general | dataset, [](auto& d, auto& f, auto k) { d.buckets.resolution = resolution(f, k); }},
    {"batch_size", general | dataset, [](auto& d, auto& f, auto k) { d.batch_size = count(f, k, 1); }},
    {"enable_bucket", general | dataset, [](auto& d, auto& f, auto k) { d.buckets.enabled = boolean(f, k); }},
    {"min_bucket_reso", general | dataset, [](auto& d, auto& f, auto k) { d.buckets.min_side = side(f, k); }},
    {"max_bucket_reso", general | dataset, [](auto& d, auto& f, auto k) { d.buckets.max_side = side(f, k); }},
    {"bucket_reso_steps", general | dataset, [](auto& d, auto& f, auto k) { d.buckets.step = side(f, k); }},
    {"bucket_no_upscale", general | dataset, [](auto& d, auto& f, auto k) { d.buckets.no_upscale = boolean(f, k); }},
    {"num_repeats", anywhere, [](auto& d, auto& f, auto k) { d.subset.repeats = count(f, k, 1); }},
    {"flip_aug", anywhere, [](auto& d, auto& f, auto k) { d.subset.flip = boolean(f, k); }},
    {"random_crop", anywhere, [](auto& d, auto& f, auto k) { d.subset.random_crop = boolean(f, k); }},
    {"alpha_mask", anywhere, [](auto& d, auto& f, auto k) { d.subset.alpha_mask = boolean(f, k); }},
    {"caption_extension", anywhere, [](auto& d, auto& f, auto k) { d.subset.caption_extension = text(f, k); }},
    {"class_tokens", anywhere, [](auto& d, auto& f, auto k) { d.subset.class_tokens = text(f, k); }},
    {"shuffle_caption", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.shuffle = boolean(f, k); }},
    {"keep_tokens", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.keep_tokens = count(f, k, 0); }},
    {"keep_tokens_separator", anywhere,
     [](auto& d, auto& f, auto k) { d.subset.captions.keep_separator = text(f, k); }},
    {"secondary_separator", anywhere,
     [](auto& d, auto& f, auto k) { d.subset.captions.secondary_separator = text(f, k); }},
    {"caption_separator", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.separator = text(f, k); }},
    {"enable_wildcard", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.wildcards = boolean(f, k); }},
    {"caption_prefix", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.prefix = text(f, k); }},
    {"caption_suffix", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.suffix = text(f, k); }},
    {"caption_dropout_rate", anywhere, [](auto& d, auto& f, auto k) { d.subset.captions.dropout = share(f, k); }},
    {"caption_dropout_every_n_epochs", anywhere,
     [](auto& d, auto& f, auto k) { d.subset.captions.dropout_every_epochs = count(f, k, 0); }},
    {"caption_tag_dropout_rate", anywhere,
     [](auto& d, auto& f, auto k) { d.subset.captions.tag_dropout = share(f, k); }},
    {"image_dir", subset, [](auto& d, auto& f, auto k) { d.subset.folder = text(f, k); }},
    {"conditioning_data_dir", subset, [](auto& d, auto& f, auto k) { d.subset.mask_folder = text(f, k); }},
    {"is_reg", subset, [](auto& d, auto& f, auto k) { d.subset.is_class = boolean(f, k); }},
    {"cache_info", anywhere, [](auto&, auto&, auto) {}},  // kohya's own, of no consequence here
};

/// Keys that kohya knows and that would change the training in ways that are not done here.
constexpr std::string_view kNotDone[] = {
    "color_aug",         "face_crop_aug_range", "token_warmup_min", "token_warmup_step",     "metadata_file",
    "custom_attributes", "validation_split",    "validation_seed",  "skip_image_resolution", "resize_interpolation",
    "network_multiplier"};

bool asks_for_nothing(const Json& value) {
  return value == Json(false) || (value.is_number() && value == Json(0)) || (value.is_string() && value == Json(""));
}

[[noreturn]] void unknown_key(const std::string& what, const std::string& key, unsigned place) {
  std::vector<std::string> known;
  for (const Key& k : kKeys)
    if (k.places & place) known.emplace_back(k.name);
  const std::string near = base::nearest(key, known);
  const auto elsewhere = std::find_if(std::begin(kKeys), std::end(kKeys), [&](const Key& k) { return k.name == key; });
  if (elsewhere != std::end(kKeys))
    throw Error(
        ExitCode::data, fmt::format("{}: \"{}\" does not stand here", what, key),
        elsewhere->places == subset ? "its place is [[datasets.subsets]]" : "its place is [general] or [[datasets]]");
  throw Error(ExitCode::data, fmt::format("{}: unknown key \"{}\"", what, base::printable(key)),
              near.empty() ? "" : fmt::format("did you mean \"{}\"?", near));
}

/// `to` with the keys of one table over it; "datasets" and "subsets" are the caller's.
void apply(SourceDefaults& to, const Json& table, unsigned place, const std::string& what) {
  const JsonFields fields(table, what);
  for (const auto& [name, value] : table.items()) {
    if ((place == dataset && name == "subsets")) continue;
    if (std::find(std::begin(kNotDone), std::end(kNotDone), name) != std::end(kNotDone)) {
      if (!asks_for_nothing(value)) throw Error(ExitCode::data, fmt::format("{}: \"{}\" is not supported", what, name));
      continue;
    }
    const auto key = std::find_if(std::begin(kKeys), std::end(kKeys),
                                  [&](const Key& k) { return k.name == name && k.places & place; });
    if (key == std::end(kKeys)) unknown_key(what, name, place);
    key->set(to, fields, name);
  }
}

const Json& tables(const Json& from, const char* key, const std::string& what) {
  const auto found = from.find(key);
  if (found == from.end()) throw Error(ExitCode::data, fmt::format("{}: [[{}]] is missing", what, key));
  if (!found->is_array() || found->empty() || !found->front().is_object())
    throw Error(ExitCode::data, fmt::format("{}: \"{}\" is not written as [[{}]]", what, key, key));
  return *found;
}

}  // namespace

std::vector<SubsetGroup> parse_sources(const std::string& toml, const std::string& name,
                                       const SourceDefaults& defaults) {
  const Json root = base::parse_toml(toml, name, base::TomlTables::allowed);
  for (const auto& [key, value] : root.items()) {
    if (key == "general" || key == "datasets") continue;
    const std::string near = base::nearest(key, std::vector<std::string>{"general", "datasets"});
    throw Error(ExitCode::data, fmt::format("{}: unknown key \"{}\"", name, base::printable(key)),
                near.empty() ? "a file has [general] and [[datasets]]" : fmt::format("did you mean \"{}\"?", near));
  }
  SourceDefaults of_all = defaults;
  if (const auto found = root.find("general"); found != root.end()) {
    if (!found->is_object()) throw Error(ExitCode::data, fmt::format("{}: \"general\" is no table", name));
    apply(of_all, *found, general, name + ": [general]");
  }
  std::vector<SubsetGroup> groups;
  for (const Json& one : tables(root, "datasets", name)) {
    const std::string what = fmt::format("{}: [[datasets]] {}", name, groups.size() + 1);
    SourceDefaults of_group = of_all;
    apply(of_group, one, dataset, what);
    SubsetGroup group{of_group.buckets, of_group.batch_size, {}};
    for (const Json& part : tables(one, "subsets", what)) {
      const std::string where = fmt::format("{}: subset {}", what, group.subsets.size() + 1);
      SourceDefaults own = of_group;
      own.subset.folder.clear();
      apply(own, part, subset, where);
      if (own.subset.folder.empty()) throw Error(ExitCode::data, fmt::format("{}: \"image_dir\" is missing", where));
      group.subsets.push_back(own.subset);
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace atelier::train::image
