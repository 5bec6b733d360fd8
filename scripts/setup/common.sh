# shellcheck shell=bash disable=SC2034  # the scripts use what is set here
# What scripts/quickstart and scripts/test share. Sourced, never run; the caller has set -euo pipefail.

program=$(basename -- "$0")
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
deps=$root/.deps   # unpacked packages and downloaded sources
venv=$root/.venv   # what pip installs

# die MESSAGE [HINT]: one line that says what is wrong, one that says what to do.
die() {
  printf '%s: error: %s\n' "$program" "$1" >&2
  if [[ $# -gt 1 ]]; then printf 'hint: %s\n' "$2" >&2; fi
  exit 1
}

step() { printf '\n== %s\n' "$*"; }

# at_least WANTED FOUND: compares version numbers.
at_least() { [[ -n ${2:-} && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# first_version COMMAND...: the first version number that the command prints, or nothing.
first_version() { "$@" 2>/dev/null | sed -nE 's/^[^0-9]*([0-9]+(\.[0-9]+)+).*/\1/p' | head -n 1 || true; }

# find_tool NAME MINIMUM: prints the path of the system's tool, or of .venv's, if it is new enough; else nothing.
find_tool() {
  local candidate
  for candidate in "$(command -v "$1" || true)" "$venv/bin/$1"; do
    if [[ -x $candidate ]] && at_least "$2" "$(first_version "$candidate" --version)"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
}

# ccache finds objects of another checkout only if paths below the checkout are hashed relative to it.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$root}

# build_jobs: as many compilers as there are cores, and as fit into memory at 1.5 GB each: LibTorch's headers are large.
build_jobs() {
  local cores fitting
  cores=$(nproc)
  fitting=$(awk '/^MemAvailable:/ { print int($2 / 1500000) }' /proc/meminfo)
  echo $((fitting < 1 ? 1 : fitting < cores ? fitting : cores))
}
