#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "models/rrdb/rrdb.h"
#include "models/single_file/renamed_source.h"

namespace atelier::models::rrdb {
namespace {

using single_file::Stored;

constexpr std::int64_t max_blocks = 256, max_upsamplers = 4;

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

/// How a file calls the modules: `{}` is a block's or a dense block's number, `first` what the number of the first is.
struct Names {
  std::string first, block, body, hr, last;  ///< block: up to the convolution's name, `body.{0}.rdb{1}.`
  std::vector<std::string> up;
  std::string tail;  ///< behind a dense block's convolution: "" or ".0"
};

std::string path_of(const io::WeightSource& file) {
  return file.files().empty() ? std::string("checkpoint") : file.files().front().path;
}

/// Whatever number of doublings there is.
std::vector<std::string> present(const io::WeightSource& file, const std::string& prefix, const std::string& name) {
  std::vector<std::string> found;
  for (std::int64_t i = 1; i <= max_upsamplers && file.has(fmt::format("{}{}{}.weight", prefix, name, i)); ++i)
    found.push_back(fmt::format("{}{}", name, i));
  return found;
}

/// `model.N` in a row: the first convolution, the body, a convolution behind each doubling, two more.
bool old_names(const io::WeightSource& file, const std::string& prefix, Names& names) {
  if (!file.has(prefix + "model.1.sub.0.RDB1.conv1.0.weight")) return false;
  std::int64_t blocks = 0;
  while (blocks < max_blocks && file.has(fmt::format("{}model.1.sub.{}.RDB1.conv1.0.weight", prefix, blocks))) ++blocks;
  std::vector<std::string> behind;
  for (int i = 2; i <= 3 * static_cast<int>(max_upsamplers) + 4; ++i)
    if (file.has(fmt::format("{}model.{}.weight", prefix, i))) behind.push_back(fmt::format("model.{}", i));
  if (behind.size() < 2) bad(path_of(file) + ": an ESRGAN model without its last convolutions");
  names = {"model.0", "model.1.sub.{0}.RDB{1}.", fmt::format("model.1.sub.{}", blocks), "", "", {}, ".0"};
  names.last = behind.back();
  behind.pop_back();
  names.hr = behind.back();
  behind.pop_back();
  names.up = std::move(behind);
  return true;
}

Names names_of(const io::WeightSource& file, std::string& prefix) {
  Names names;
  for (const char* front : {"params_ema.", "params.", ""}) {
    prefix = front;
    if (file.has(prefix + "body.0.rdb1.conv1.weight"))
      return {
          "conv_first", "body.{0}.rdb{1}.", "conv_body", "conv_hr", "conv_last", present(file, prefix, "conv_up"), ""};
    if (file.has(prefix + "RRDB_trunk.0.RDB1.conv1.weight"))
      return {"conv_first",
              "RRDB_trunk.{0}.RDB{1}.",
              "trunk_conv",
              "HRconv",
              "conv_last",
              present(file, prefix, "upconv"),
              ""};
    if (old_names(file, prefix, names)) return names;
  }
  if (file.has("body.0.weight") || file.has("params.body.0.weight"))
    bad(path_of(file) + ": a compact network (SRVGG), which is not supported; RRDB networks (ESRGAN, Real-ESRGAN) are");
  bad(path_of(file) + ": not an RRDB network (ESRGAN, Real-ESRGAN)");
}

/// The file's name of one of RrdbNet's modules; "" where it is none.
std::string stored_name(const Names& names, const std::string& name) {
  const std::size_t dot = name.rfind('.');
  const std::string module = name.substr(0, dot), kind = name.substr(dot);  // ".weight", ".bias"
  if (module == "conv_first") return names.first + kind;
  if (module == "conv_body") return names.body + kind;
  if (module == "conv_hr") return names.hr + kind;
  if (module == "conv_last") return names.last + kind;
  if (module.starts_with("conv_up")) return names.up.at(std::stoul(module.substr(7)) - 1) + kind;
  // body.I.rdbJ.convK
  const std::size_t second = module.find('.', 5), third = module.find('.', second + 1);
  return fmt::format(fmt::runtime(names.block), module.substr(5, second - 5),
                     module.substr(second + 4, third - second - 4)) +
         module.substr(third + 1) + names.tail + kind;
}

std::int64_t size_of(const io::WeightSource& file, const std::string& name, std::size_t dimension) {
  const auto& shape = file.info(name).shape;
  if (shape.size() != 4) bad(fmt::format("{}: tensor {} is no convolution", path_of(file), base::in_quotes(name)));
  return shape[dimension];
}

Config config_of(const io::WeightSource& file, const std::string& prefix, const Names& names) {
  Config c;
  const auto at = [&](const std::string& module, std::size_t dimension) {
    return size_of(file, prefix + module + ".weight", dimension);
  };
  const std::int64_t in = at(names.first, 1);
  c.unshuffle = std::llround(std::sqrt(static_cast<double>(in) / 3));
  if (3 * c.unshuffle * c.unshuffle != in || c.unshuffle < 1)
    bad(fmt::format("{}: its first convolution takes {} channels, which are no pixels of 3", path_of(file), in));
  c.features = at(names.first, 0);
  c.growth = at(fmt::format(fmt::runtime(names.block), 0, 1) + "conv1" + names.tail, 0);
  if (at(names.last, 0) != 3) bad(fmt::format("{}: it makes {} channels, not 3", path_of(file), at(names.last, 0)));
  c.blocks = 0;
  while (c.blocks < max_blocks &&
         file.has(prefix + fmt::format(fmt::runtime(names.block), c.blocks, 1) + "conv1" + names.tail + ".weight"))
    ++c.blocks;
  c.upsamplers = static_cast<std::int64_t>(names.up.size());
  if (c.scale() < 1 || c.scale() * c.unshuffle != std::int64_t{1} << c.upsamplers)
    bad(fmt::format("{}: a network that makes pictures smaller", path_of(file)));
  return c;
}

/// Nothing may be left over: it would be part of what the network was trained as.
void check_used(const io::WeightSource& file, const io::WeightSource& weights, const std::string& prefix) {
  std::size_t held = 0;
  for (const auto& name : file.names())
    held += name.starts_with(prefix) && !(prefix.empty() && name.starts_with("params.")) ? 1 : 0;
  if (held > weights.names().size())
    bad(fmt::format("{}: {} of its tensors have no place in an RRDB network: it is of another kind", path_of(file),
                    held - weights.names().size()));
}

}  // namespace

File open_file(std::shared_ptr<io::WeightSource> file) {
  std::string prefix;
  const Names names = names_of(*file, prefix);
  const Config config = config_of(*file, prefix, names);
  std::vector<std::string> wanted;
  const RrdbNet network(config);
  for (const auto& entry : network.named_parameters()) wanted.push_back(entry.key());
  auto weights = single_file::renamed_source(file, prefix, wanted,
                                             [&](const std::string& name) { return Stored{stored_name(names, name)}; });
  check_used(*file, *weights, prefix);
  return {config, std::move(weights)};
}

}  // namespace atelier::models::rrdb
