#include <chrono>
#include <functional>
#include <random>

#include <doctest/doctest.h>

#include "base/error.h"
#include "goldens.h"
#include "text/jinja/clock.h"
#include "text/jinja/template.h"

using namespace atelier;
namespace jinja = text::jinja;
using text::Segment;

namespace {

jinja::TrackedText render(const std::string& source, const base::Json& variables, const jinja::Limits& limits = {}) {
  return jinja::Template::parse(source, "test.jinja")
      ->render(
          [&] {
            jinja::Template::Variables bound{{"bos_token", jinja::Value::text("<bos>", true)}};
            for (const auto& [name, value] : variables.items())
              bound.emplace_back(name, jinja::Value::from_json(value, false));
            return bound;
          },
          limits);
}

/// The message of the error, or "" where there is none.
std::string failure(const std::string& source, const base::Json& variables = base::Json::object(),
                    const jinja::Limits& limits = {}) {
  try {
    render(source, variables, limits);
  } catch (const base::Error& error) {
    CHECK(error.code() == base::ExitCode::data);
    return error.what();
  }
  return "";
}

/// Trusted text in plain, untrusted text in ‹›.
std::string marked(const std::string& source, const base::Json& variables) {
  std::string out;
  for (const Segment& s : render(source, variables).segments()) out += s.trusted ? s.text : "‹" + s.text + "›";
  return out;
}

std::string repeated(const std::string& part, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += part;
  return out;
}

}  // namespace

TEST_CASE("snippets give what transformers' Jinja environment gives, byte for byte") {
  const base::Json goldens = base::read_json_file(test::text_data("jinja_goldens.json"));
  CHECK(goldens["cases"].size() >= 190);
  for (const auto& golden : goldens["cases"]) {
    const std::string source = golden["template"].get<std::string>();
    CAPTURE(source);
    std::string output, message;
    try {
      output = render(source, goldens["variables"]).bytes();
    } catch (const base::Error& error) {
      message = error.what();
    }
    if (golden.contains("output")) {
      CHECK(message == "");
      CHECK(output == golden["output"].get<std::string>());
    } else {
      CHECK(message.starts_with("test.jinja: "));
      if (golden.contains("raised")) CHECK(message == "test.jinja: " + golden["raised"].get<std::string>());
    }
  }
}

TEST_CASE("errors name the template and the line") {
  CHECK(failure("a\nb\n{{ nope.x }}") == "test.jinja: line 3: 'nope' is undefined");
  CHECK(failure("\n{% if x %}\n{% endfor %}").starts_with("test.jinja: line 3: "));
  CHECK(failure("{% macro m() %}\n\n{{ 1 + 'a' }}{% endmacro %}\n\n{{ m() }}").starts_with("test.jinja: line 3: "));
  CHECK(failure("{#\n#}{{ x\n|\nnosuch }}") == "test.jinja: line 4: no filter named 'nosuch'");
  CHECK(failure("{{ raise_exception('a\\nb') }}") == "test.jinja: a\nb");
  CHECK(failure("{% include 'x' %}").find("not supported") != std::string::npos);
}

TEST_CASE("strftime_now tells the clock's time") {
  const jinja::ScopedClock clock(86'400 * 365);
  CHECK(render("{{ strftime_now('%Y') }} {{ strftime_now('') }}|", base::Json::object()).bytes() == "1971 |");
  CHECK(failure("{{ strftime_now('" + repeated("%c", 5000) + "') }}") != "");
}

TEST_CASE("taint: the origin of every byte survives operators, filters and methods") {
  const base::Json vars = {{"u", " <b>"}, {"w", "Ab cd"}, {"list", {"x", "y"}}, {"d", {{"k", "v"}}},
                           {"n", 7},      {"f", 1.5},     {"t", true},          {"z", nullptr}};
  for (const auto& [source, expected] : std::initializer_list<std::pair<std::string, std::string>>{
           {"a{{ u }}b", "a‹ <b>›b"},
           {"{{ bos_token }}{{ bos_token + w }}", "<bos><bos>‹Ab cd›"},
           {"{{ '<' + u + '>' }}{{ '<' ~ w ~ '>' }}", "<‹ <b>›><‹Ab cd›>"},
           {"{{ ('[' + u + ']') | trim }}{{ (u + ' ') | trim }}", "[‹ <b>›]‹<b>›"},
           {"{{ ('T' + w)[0:2] }}{{ ('T' + w)[::-1] }}", "T‹Adc bA›T"},
           {"{{ ('T' ~ w) | upper }}{{ ('T' ~ w) | lower }}{{ ('tt ' ~ w) | title }}{{ ('T' ~ w) | capitalize }}",
            "T‹AB CD›t‹ab cd›Tt ‹Ab Cd›T‹ab cd›"},
           {"{{ 'aXb'.replace('X', w) }}{{ w.replace('b', 'T') }}{{ w | replace(' ', '_') }}",
            "a‹Ab cd›b‹A›T‹ cdAb›_‹cd›"},
           {"{{ list | join('-') }}{{ ', '.join(list) }}{{ ['a', w] | join(w) }}", "‹x›-‹yx›, ‹y›a‹Ab cdAb cd›"},
           {"{{ ('a,' + w).split(',')[0] }}{{ ('a,' + w).split(',')[1] }}{{ w.split() | join }}", "a‹Ab cdAbcd›"},
           {"{{ d }}{{ d | tojson }}{{ {'a': 1} | tojson }}{{ {'a': w} | tojson }}",
            "‹{'k': 'v'}{\"k\": \"v\"}›{\"a\": 1}‹{\"a\": \"Ab cd\"}›"},
           {"{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}{% for c in w %}{{ c }}.{% endfor %}",
            "‹k›=‹vA›.‹b›.‹ ›.‹c›.‹d›."},
           {"{% set x %}a{{ w }}b{% endset %}{{ x }}{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(w) }}",
            "a‹Ab cd›b<‹Ab cd›>"},
           {"{% filter upper %}a{{ w }}{% endfilter %}{% set y | replace('b', 'T') %}{{ w }}{% endset %}{{ y }}",
            "A‹AB CDA›T‹ cd›"},
           {"{{ n }}{{ n + 1 }}{{ n * 0.5 }}{{ 3 }}{{ f }}{{ t }}{{ z }}{{ -n }}{{ 2 ** n }}",
            "‹783.5›3‹1.5TrueNone-7128›"},
           {"{{ n | string }}{{ '12' | int }}{{ '%s' | format(w) }}{{ '%d:%s' % (n, 'x') }}", "‹7›12‹Ab cd7›:x"},
           {"{{ w * 2 }}{{ 'ab' * 2 }}{{ w | indent(2, true) }}", "‹Ab cdAb cd›abab‹  Ab cd›"},
           {"{{ u | escape }}{{ ('<' + w) | e }}", "‹ &lt;b&gt;›&lt;‹Ab cd›"},
           {"{{ list | first }}{{ list | last }}{{ list | map('upper') | join }}{{ list | sort | join }}{{ list }}",
            "‹xyXYxy['x', 'y']›"},
           {"{{ w | length }}{{ w == 'Ab cd' }}{{ 'yes' if u else 'no' }}{{ w or 'x' }}{{ w and 'x' }}",
            "5Trueyes‹Ab cd›x"},
           {"{% set ns = namespace(a=w, b='t') %}{{ ns.a }}{{ ns.b }}{% set ns.b = u %}{{ ns.b }}", "‹Ab cd›t‹ <b>›"},
           {"{{ missing | default(w) }}{{ missing | default('d') }}{{ w | list }}{{ w.center(9, '*') }}{{ "
            "w.partition(' ')[2] }}",
            "‹Ab cd›d‹['A', 'b', ' ', 'c', 'd']›**‹Ab cd›**‹cd›"},
           {"{{ strftime_now('x') }}{{ strftime_now(w) }}{{ w.splitlines() | first }}{{ w | reverse }}",
            "x‹Ab cdAb cddc bA›"},
           {"{{ dict(a=w).a }}{{ [w, 'a'][1] }}{{ (w, 'a')[0] }}{{ w[0] }}{{ w | string }}{{ w.strip('A') }}",
            "‹Ab cd›a‹Ab cdAAb cdb cd›"}}) {
    CAPTURE(source);
    CHECK(marked(source, vars) == expected);
  }
}

TEST_CASE("hostile templates end soon with an error") {
  jinja::Limits limits;  // small, so that sanitizers need not take minutes
  limits.steps = 200'000;
  limits.text_bytes = 4u << 20;
  limits.objects = 1000;
  for (const std::string& source :
       {std::string("{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% "
                    "endfor %}{% endfor %}"),
        std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        std::string("{% macro a(n) %}{% for i in [1] %}{% if 1 %}{{ b(n) }}{% endif %}{% endfor %}{% endmacro %}{% "
                    "macro b(n) %}{{ a(n) }}{% endmacro %}{{ a(1) }}"),
        std::string("{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"),
        std::string("{{ 'x' * 99999999999 }}"),
        std::string("{{ [1] * 99999999999 }}"),
        std::string("{{ 'x'.ljust(99999999999) }}"),
        std::string("{{ 'x' | indent(99999999999, true) }}"),
        std::string("{{ [1] | tojson(indent=99999999999) }}"),
        std::string("{{ '%999999999d' % 1 }}"),
        std::string("{{ 'x'.zfill(99999999999) }}"),
        std::string("{{ 'abc'.replace('', 'x' * 1000000).replace('', 'y' * 10000) }}"),
        std::string(
            "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}"),
        std::string("{% set ns = namespace(l={}) %}{% for i in range(5000) %}{% set ns.l = {'a': ns.l} %}{% endfor %}"),
        std::string("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}"),
        std::string(
            "{% for i in range(99999) %}{% for j in range(9) %}{% set n = namespace() %}{% endfor %}{% endfor %}"),
        std::string(
            "{% for i in range(99999) %}{% for j in range(9) %}{% macro m() %}{% endmacro %}{% endfor %}{% endfor %}"),
        std::string("{% for i in range(9999) %}{{ 'x' * 1000000 }}{% endfor %}"),
        std::string("{{ range(1, 9223372036854775807, 9223372036854775806) | list }}{{ 9223372036854775807 + 1 }}"),
        std::string("{{ 2 ** 64 }}"),
        std::string("{{ (-9223372036854775807 - 1) // -1 }}"),
        std::string("{{ 10.0 ** 400 }}"),
        std::string("{{ 1e300 | int }}"),
        std::string("{{ 99999999999999999999 }}"),
        "{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}",
        "{{ " + repeated("[", 50'000),
        "{{ " + repeated("-", 50'000) + "1 }}",
        "{{ " + repeated("not ", 50'000) + "1 }}",
        "{{ 1" + repeated(" + 1", 50'000) + " }}",
        "{{ x" + repeated("|trim", 50'000) + " }}",
        "{{ x" + repeated(".a", 50'000) + " }}",
        "{{ f" + repeated("(f", 50'000),
        "{{ f" + repeated("()", 50'000) + " }}",
        "{{ 1" + repeated(" if 1 else 1", 50'000) + " }}",
        "{{ 1" + repeated(" is odd", 50'000) + " }}",
        "{{ {1:" + repeated("{1:", 50'000),
        repeated("{% if 1 %}", 50'000),
        repeated("{% for i in x %}", 5000),
        repeated("{% macro m() %}", 5000),
        "{% set " + repeated("(", 50'000) + "a" + repeated(")", 50'000) + " = 1 %}",
        "{{ x[" + repeated("x[", 50'000),
        repeated("{{", 100'000),
        repeated("{%", 100'000),
        repeated("{#", 100'000),
        repeated("{% raw %}", 100'000)}) {
    CAPTURE(source.substr(0, 120));
    CHECK(failure(source, base::Json::object(), limits) != "");
  }
  // And with the limits that are in force.
  const auto start = std::chrono::steady_clock::now();
  CHECK(failure("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}").find("too long") !=
        std::string::npos);
  CHECK(failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").find("too deeply") != std::string::npos);
  CHECK(failure("{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")
            .find("too much text") != std::string::npos);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
  // Long, but harmless.
  CHECK(failure(repeated("{{ 1 }}{% if 1 %}x{% elif 2 %}{% endif %}", 20'000)) == "");
  CHECK(failure("{{ 1" + repeated(" ~ 1", 20'000) + " }}{{ [1" + repeated(", 1", 20'000) + "] | length }}") == "");
  CHECK(failure("{% if 0 %}" + repeated("{% elif 0 %}", 20'000) + "{% endif %}") == "");
}

TEST_CASE("objects that refer to themselves or to each other in long chains are let go of") {
  CHECK(failure(
            "{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.list = [ns, [ns]] %}{{ ns.me.me is defined }}") ==
        "");
  CHECK(failure("{% set ns = namespace(last=none) %}{% for i in range(20000) %}{% set n = namespace(next=ns.last) %}{% "
                "set ns.last = n %}{% endfor %}") == "");
  CHECK(failure("{% macro m() %}{{ m is callable }}{% endmacro %}{% set ns = namespace(f=m) %}{{ ns.f() }}") == "");
  CHECK(failure("{% set ns = namespace() %}{% for i in [ns] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.index }}{{ "
                "ns.l.length }}") == "");
  CHECK(failure("{% set ns = namespace() %}{% for i in [1, 2] if i %}{% set ns.l = loop %}{% break %}{% endfor %}{{ "
                "ns.l.length }}{{ ns.l.last }}") == "");
  CHECK(failure("{% set ns = namespace() %}{% for i in [1] %}{% macro f() %}{{ i }}{% endmacro %}{% set ns.f = f %}{% "
                "endfor %}{{ ns.f() }}") == "");
  CHECK(failure("{% set g = [1, 2] | map('string') %}{% set ns = namespace(g=g) %}{% for x in g %}{{ ns.g | list }}{% "
                "endfor %}") == "");
}

TEST_CASE("mutated templates never do worse than fail") {
  const base::Json goldens = base::read_json_file(test::text_data("jinja_goldens.json"));
  std::vector<std::string> sources;
  for (const auto& golden : goldens["cases"]) sources.push_back(golden["template"].get<std::string>());
  std::mt19937_64 random(11);
  const auto below = [&random](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  const std::string alphabet = "{}%#-+ \n()[]|.,:='\"\\x0é~*/<>!";
  jinja::Limits limits;
  limits.steps = 20'000;
  limits.text_bytes = 1u << 20;
  std::size_t rendered = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string source = sources[below(sources.size())];
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      const std::size_t at = below(source.size() + 1);
      switch (below(4)) {
        case 0: source.insert(at, 1, alphabet[below(alphabet.size())]); break;
        case 1:
          if (at < source.size()) source[at] = alphabet[below(alphabet.size())];
          break;
        case 2: source.erase(at, below(6)); break;
        default: {
          const std::string& other = sources[below(sources.size())];
          const std::size_t from = below(other.size() + 1);
          source.insert(at, other.substr(from, below(20)));
        }
      }
    }
    try {
      render(source, goldens["variables"], limits);
      ++rendered;
    } catch (const base::Error&) {
    }
  }
  CHECK(rendered > 200);
}
