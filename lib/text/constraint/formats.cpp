#include "text/constraint/formats.h"

#include <map>

namespace atelier::text::constraint {
namespace {

std::map<std::string, std::string, std::less<>> make_table() {
  // Leap years end in a multiple of 4, and centuries are a multiple of 400.
  const std::string year = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])";
  const std::string leap = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)";
  const std::string date = "(" + year +
                           "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|" +
                           "1[0-9]|2[0-8]))|" + leap + "-02-29)";
  const std::string time =
      "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
  // Nothing with hyphens in the third and fourth place, which would have to be valid punycode.
  const std::string plain_label = "[a-zA-Z0-9]([a-zA-Z0-9]{0,30})(-[a-zA-Z0-9]{1,20})?";
  const std::string host = plain_label + "(\\." + plain_label + "){0,4}";
  const std::string byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  const std::string ipv4 = byte + "(\\." + byte + "){3}";
  const std::string h = "[0-9a-fA-F]{1,4}";
  const std::string ipv6 = "((" + h + ":){7}" + h + "|(" + h + ":){1,7}:|(" + h + ":){1,6}:" + h + "|(" + h +
                           ":){1,5}(:" + h + "){1,2}|(" + h + ":){1,4}(:" + h + "){1,3}|(" + h + ":){1,3}(:" + h +
                           "){1,4}|(" + h + ":){1,2}(:" + h + "){1,5}|" + h + ":(:" + h + "){1,6}|:(:" + h +
                           "){1,7}|::)";
  const std::string atom = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
  const std::string uri_atom = "[a-zA-Z0-9!$&'*+_~-]{1,20}";  // without what a URI wants escaped
  const std::string pchar = "([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";
  const std::string path = "(/" + pchar + "*)*";
  const std::string query = "(\\?(" + pchar + "|[/?])*)?(#(" + pchar + "|[/?])*)?";
  const std::string domain = plain_label + "(\\." + plain_label + "){1,4}";
  return {
      {"date", date},
      {"time", time},
      {"date-time", date + "T" + time},
      {"duration",
       "P([0-9]{1,4}W|([0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D)(T([0-9]{1,4}H([0-"
       "9]{1,4}"
       "M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))?|T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}"
       "M([0-9]"
       "{1,4}S)?|[0-9]{1,4}S))"},
      {"email", atom + "(\\." + atom + "){0,2}@" + domain},
      {"hostname", host},
      {"ipv4", ipv4},
      {"ipv6", ipv6},
      {"uri", "(https?|ftp)://" + host + "(:[0-9]{1,4})?" + path + query + "|(mailto:" + uri_atom + "@" + domain +
                  "|urn:[a-z0-9]{2,31}:" + pchar + "+)"},
      {"uri-reference", "((https?|ftp)://" + host + "(:[0-9]{1,4})?)?(/" + pchar + "+)*" + query},
      {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
      {"json-pointer", "(/([^/~]|~[01])*)*"},
  };
}

const std::map<std::string, std::string, std::less<>>& table() {
  static const auto formats = make_table();
  return formats;
}

}  // namespace

std::optional<std::string> format_pattern(std::string_view format) {
  const auto found = table().find(format);
  return found == table().end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> known_formats() {
  std::vector<std::string> names;
  for (const auto& [name, pattern] : table()) names.push_back(name);
  return names;
}

}  // namespace atelier::text::constraint
