#include "models/adapters/peft_config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

namespace atelier::models::adapters {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

/// Names and numbers that say where an adapter came from, or that matter only with another key.
constexpr std::array<std::string_view, 7> informative = {
    "auto_mapping",  "base_model_name_or_path", "revision",      "peft_version",
    "megatron_core", "qalora_group_size",       "runtime_config"};

/// What this reader knows how to follow.
constexpr std::array<std::string_view, 20> followed = {"peft_type",
                                                       "task_type",
                                                       "inference_mode",
                                                       "r",
                                                       "lora_alpha",
                                                       "lora_dropout",
                                                       "target_modules",
                                                       "exclude_modules",
                                                       "bias",
                                                       "use_rslora",
                                                       "use_dora",
                                                       "modules_to_save",
                                                       "rank_pattern",
                                                       "alpha_pattern",
                                                       "layers_to_transform",
                                                       "layers_pattern",
                                                       "eva_config",
                                                       "loftq_config",
                                                       "init_lora_weights",
                                                       "fan_in_fan_out"};

/// Values that ask for nothing.
bool is_neutral(const Json& value) {
  return value.is_null() || value == Json(false) || ((value.is_object() || value.is_array()) && value.empty());
}

Error unsupported(const std::string& what, std::string_view key, const Json& value) {
  std::string text = base::dump_json(value);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return {ExitCode::data, fmt::format("{}: \"{}\": {} is not supported", what, key, text)};
}

Error mismatch(const std::string& what, std::string_view key, const char* expected) {
  return {ExitCode::data, fmt::format("{}: \"{}\" is not {}", what, key, expected)};
}

void refuse_unsupported(const Json& json, const std::string& what) {
  const auto among = [](const auto& list, const std::string& key) {
    return std::find(list.begin(), list.end(), key) != list.end();
  };
  for (const auto& [key, value] : json.items())
    if (!among(informative, key) && !among(followed, key) && !is_neutral(value)) throw unsupported(what, key, value);
}

std::vector<std::string> strings(const Json& value, const std::string& what, std::string_view key) {
  std::vector<std::string> list;
  for (const Json& item : value) {
    if (!item.is_string() || item.get_ref<const std::string&>().empty()) throw mismatch(what, key, "a list of names");
    list.push_back(item.get<std::string>());
  }
  return list;
}

ModuleSelection selection(const base::JsonFields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (!value) return {};
  if (value->is_string()) return {.names = {}, .expression = value->get<std::string>()};
  if (!value->is_array()) throw mismatch(fields.what(), key, "a list of names or an expression");
  return {.names = strings(*value, fields.what(), key), .expression = {}};
}

std::vector<std::string> names_or_name(const base::JsonFields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (!value) return {};
  if (value->is_string())
    return value->get_ref<const std::string&>().empty() ? std::vector<std::string>{}
                                                        : std::vector<std::string>{value->get<std::string>()};
  if (!value->is_array()) throw mismatch(fields.what(), key, "a list of names");
  return strings(*value, fields.what(), key);
}

std::vector<std::int64_t> layers(const base::JsonFields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (!value) return {};
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<std::int64_t> numbers;
  for (const Json& item : list) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > 100000)
      throw mismatch(fields.what(), key, "a layer's number or a list of them");
    numbers.push_back(item.get<std::int64_t>());
  }
  return numbers;
}

std::vector<std::pair<std::string, double>> pattern(const base::JsonFields& fields, std::string_view key, double low,
                                                    double high, bool whole) {
  const Json* value = fields.find(key);
  if (!value) return {};
  if (!value->is_object()) throw mismatch(fields.what(), key, "an object of names and numbers");
  std::vector<std::pair<std::string, double>> pairs;
  for (const auto& [name, number] : value->items()) {
    const bool fits = whole ? number.is_number_integer() : number.is_number();
    if (!fits || number.get<double>() < low || number.get<double>() > high)
      throw Error(ExitCode::data,
                  fmt::format("{}: \"{}\": \"{}\" is {}, expected {} from {} to {}", fields.what(), key, name,
                              base::dump_json(number), whole ? "a whole number" : "a number", low, high));
    pairs.emplace_back(name, number.get<double>());
  }
  return pairs;
}

/// Initialisations that leave the base weights alone: of an adapter that is read they change nothing.
std::string initialisation(const Json& json, const std::string& what) {
  const auto place = json.find("init_lora_weights");
  if (place == json.end() || place->is_null()) return "true";
  if (place->is_boolean()) return place->get<bool>() ? "true" : "false";
  for (const char* known : {"gaussian", "eva", "orthogonal"})
    if (*place == Json(known)) return known;
  throw unsupported(what, "init_lora_weights", *place);
}

void check_words(const base::JsonFields& fields, const Json& json) {
  const auto only = [&](const char* key, const char* wanted) {
    if (const Json* value = fields.find(key); value && *value != Json(wanted))
      throw unsupported(fields.what(), key, *value);
  };
  if (!fields.has("peft_type")) throw Error(ExitCode::data, fmt::format("{}: no \"peft_type\"", fields.what()));
  only("peft_type", "LORA");
  only("task_type", "CAUSAL_LM");
  for (const char* key : {"use_rslora", "use_dora", "inference_mode"})
    if (const Json* value = fields.find(key); value && !value->is_boolean())
      throw mismatch(fields.what(), key, "true or false");
  if (const Json* value = fields.find("fan_in_fan_out"); value && !is_neutral(*value))
    throw unsupported(fields.what(), "fan_in_fan_out", *value);
  // Only read by the initialisation of that name, which is over.
  const bool eva = json.contains("init_lora_weights") && json["init_lora_weights"] == Json("eva");
  for (const char* key : {"eva_config", "loftq_config"})
    if (const Json* value = fields.find(key);
        value && !is_neutral(*value) && !(eva && key == std::string_view("eva_config")))
      throw unsupported(fields.what(), key, *value);
}

}  // namespace

PeftConfig parse_peft_config(const Json& json, const std::string& what) {
  if (!json.is_object()) throw Error(ExitCode::data, fmt::format("{}: not a JSON object", what));
  const base::JsonFields fields(json, what);
  check_words(fields, json);
  refuse_unsupported(json, what);
  PeftConfig config;
  config.r = fields.integer_or("r", 1, 1 << 20, config.r);
  config.lora_alpha = fields.number_or("lora_alpha", -1e6, 1e6, config.lora_alpha);
  config.lora_dropout = fields.number_or("lora_dropout", 0, 0.999999, 0);
  config.use_rslora = fields.boolean_or("use_rslora", false);
  config.use_dora = fields.boolean_or("use_dora", false);
  config.target_modules = selection(fields, "target_modules");
  config.exclude_modules = selection(fields, "exclude_modules");
  config.layers_to_transform = layers(fields, "layers_to_transform");
  config.layers_pattern = names_or_name(fields, "layers_pattern");
  config.rank_pattern = pattern(fields, "rank_pattern", 1, 1 << 20, /*whole=*/true);
  config.alpha_pattern = pattern(fields, "alpha_pattern", -1e6, 1e6, /*whole=*/false);
  config.modules_to_save = names_or_name(fields, "modules_to_save");
  config.bias = fields.string_or("bias", "none");
  config.init_lora_weights = initialisation(json, what);
  config.base_model = fields.string_or("base_model_name_or_path", "");
  if (config.bias != "none" && config.bias != "all" && config.bias != "lora_only")
    throw unsupported(what, "bias", json["bias"]);
  if (config.target_modules.empty())
    throw Error(ExitCode::data, fmt::format("{}: \"target_modules\" names no module", what));
  const bool by_expression = !config.target_modules.expression.empty();
  if (by_expression && (!config.layers_to_transform.empty() || !config.layers_pattern.empty()))
    throw Error(ExitCode::data,
                fmt::format("{}: \"{}\" does not go with an expression in \"target_modules\"", what,
                            config.layers_to_transform.empty() ? "layers_pattern" : "layers_to_transform"));
  if (!config.layers_pattern.empty() && config.layers_to_transform.empty())
    throw Error(ExitCode::data, fmt::format("{}: \"layers_pattern\" without \"layers_to_transform\"", what));
  return config;
}

Json peft_json(const PeftConfig& c) {
  const auto number = [](double value) {
    return value == static_cast<double>(static_cast<std::int64_t>(value)) ? Json(static_cast<std::int64_t>(value))
                                                                          : Json(value);
  };
  const auto list = [](const auto& values) { return values.empty() ? Json(nullptr) : Json(values); };
  const auto selected = [&](const ModuleSelection& s) {
    return s.expression.empty() ? list(s.names) : Json(s.expression);
  };
  const auto patterns = [&](const std::vector<std::pair<std::string, double>>& pairs) {
    Json object = Json::object();
    for (const auto& [name, value] : pairs) object[name] = number(value);
    return object;
  };
  Json init = c.init_lora_weights;
  if (c.init_lora_weights == "true" || c.init_lora_weights == "false") init = c.init_lora_weights == "true";
  Json json = {{"peft_type", "LORA"}, {"task_type", "CAUSAL_LM"}, {"inference_mode", true}};
  json["base_model_name_or_path"] = c.base_model.empty() ? Json(nullptr) : Json(c.base_model);
  json["r"] = c.r;
  json["lora_alpha"] = number(c.lora_alpha);
  json["lora_dropout"] = c.lora_dropout;
  json["target_modules"] = selected(c.target_modules);
  json["exclude_modules"] = selected(c.exclude_modules);
  json["bias"] = c.bias;
  json["fan_in_fan_out"] = false;
  json["use_rslora"] = c.use_rslora;
  json["use_dora"] = c.use_dora;
  json["init_lora_weights"] = init;
  json["modules_to_save"] = list(c.modules_to_save);
  json["layers_to_transform"] = list(c.layers_to_transform);
  json["layers_pattern"] = list(c.layers_pattern);
  json["rank_pattern"] = patterns(c.rank_pattern);
  json["alpha_pattern"] = patterns(c.alpha_pattern);
  return json;
}

}  // namespace atelier::models::adapters
