# shellcheck shell=bash disable=SC2154  # common.sh sets root, deps and venv
# The compiler and the libraries that come as Debian packages. Sourced by scripts/quickstart after common.sh.

# Each header with the package that has it.
library_headers=(
  CLI/CLI.hpp libcli11-dev
  fmt/format.h libfmt-dev
  nlohmann/json.hpp nlohmann-json3-dev
  openssl/evp.h libssl-dev
  doctest/doctest.h doctest-dev
  stb/stb_image.h libstb-dev
  zlib.h zlib1g-dev
  histedit.h libedit-dev
)

# compiles COMMAND: does it compile C++20 as gcc 11 or newer does, with its library?
compiles() {
  printf '%s\n' '#include <concepts>' '#include <ranges>' '#include <span>' '#include <string>' \
    'template <std::integral T> constexpr T twice(T x) { return x + x; }' 'int main() { return twice(0); }' |
    "$1" -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1
}

# find_compiler: prints the command of a C++20 compiler: $CXX, the default one, or the newest numbered g++ or clang++.
find_compiler() {
  local candidate
  for candidate in "${CXX:-}" c++ g++ g++-{15,14,13,12,11} clang++ clang++-{19,18,17,16,15,14}; do
    if [[ -n $candidate ]] && command -v "$candidate" >/dev/null && compiles "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
}

# missing_packages COMPILER: prints the packages of library_headers whose header neither the system nor .deps has.
missing_packages() {
  local index
  for ((index = 0; index < ${#library_headers[@]}; index += 2)); do
    printf '#if !__has_include(<%s>)\nmissing %s\n#endif\n' "${library_headers[index]}" "${library_headers[index + 1]}"
  done | "$1" -std=c++20 -E -P -I "$deps/usr/include" -x c++ - | sed -n 's/^missing //p'
}

# root_command: prints nothing for root, `sudo` where it needs no password; fails where neither holds.
root_command() {
  if [[ $(id -u) -eq 0 ]]; then return; fi
  command -v sudo >/dev/null && sudo -n true 2>/dev/null && echo sudo
}

# install_packages SUDO PACKAGE...: with apt-get; the lists are refreshed only if it does not work without.
install_packages() {
  local as_root=() log=$deps/apt.log
  if [[ -n $1 ]]; then as_root=(sudo -n); fi
  shift
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@")
  mkdir -p "$deps"
  if "${install[@]}" >"$log" 2>&1; then return; fi
  if "${as_root[@]}" apt-get update >>"$log" 2>&1 && "${install[@]}" >>"$log" 2>&1; then return; fi
  grep -E '^E: ' "$log" | tail -n 3 >&2 || true
  die "apt-get could not install: $*" "is the network up? the whole log is $log; once they are installed, run this again"
}

# unpack_packages PACKAGE...: the same without rights: downloads the packages and unpacks them below .deps.
unpack_packages() {
  local lists=$deps/apt options log=$deps/apt.log
  # Of libedit the library itself is needed too, with what it is linked with; the others are headers alone.
  if [[ " $* " == *" libedit-dev "* ]]; then set -- "$@" libedit2 libbsd0; fi
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial" "$lists/packages"
  options=(-o "Dir::State::Lists=$lists/lists" -o "Dir::Cache=$lists/cache" -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=true)
  if ! (cd "$lists/packages" && { apt-get download "$@" || { apt-get "${options[@]}" update &&
    apt-get "${options[@]}" download "$@"; }; }) >"$log" 2>&1; then
    grep -E '^E: ' "$log" | tail -n 3 >&2 || true
    die "these packages could not be downloaded: $*" "ask an administrator: apt-get install $*"
  fi
  local package
  for package in "$lists/packages"/*.deb; do
    dpkg-deb --extract "$package" "$deps" || die "$package cannot be unpacked" "is the disk full?"
  done
  rm -rf "$lists"
}
