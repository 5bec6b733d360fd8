#!/usr/bin/env bash
# Which sampler, and how many steps? Makes 50 prompts' pictures with each of grid.toml's settings on the model that ships, and
# writes one report with tables, charts and the pictures side by side:
#
#   examples/compare/compare.sh report                                   # report/report.html; minutes on two cores
#   examples/compare/compare.sh report --clip clip-vit-large-patch14/    # with a CLIP score for each row (docs/bench.md)
#   examples/compare/compare.sh new --baseline report/results.jsonl --fail-if "picture_s>+25%"     # a gate for CI
#
# The same command goes on where it was stopped. Exit codes: 0 all rows ran; 3 some failed (the report says why); 4 a --fail-if
# holds; 75 stopped, run it again. BENCH names another sd-bench; without one that is built, scripts/quickstart builds it.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
bench=${BENCH:-$root/build/release/bin/sd-bench}
output=${1:?usage: compare.sh FOLDER [flags of sd-bench compare]}
shift
if [[ ! -x $bench && -z ${BENCH:-} ]]; then
  "$root/scripts/quickstart" >&2
fi
exec "$bench" compare --grid "$here/grid.toml" --prompts "$here/prompts.txt" --output "$output" "$@"
