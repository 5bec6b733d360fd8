#!/usr/bin/env bash
# For cron: the same long instructions every time, another last line. Keys and values of the instructions are kept in a
# folder, so that only what is new is computed.
#
#   */5 * * * *  /path/to/atelier/examples/shell/cached-summary.sh instructions.txt "$(tail -n 1 /var/log/app.log)"
#
# CACHE names the folder (default ~/.cache/atelier/prompts), TOOL another gemma-generate.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
instructions=${1:?usage: cached-summary.sh INSTRUCTIONS TEXT [flags of gemma-generate]}
text=${2:?usage: cached-summary.sh INSTRUCTIONS TEXT [flags of gemma-generate]}
shift 2

"$tool" --quiet --prompt-cache "${CACHE:-$HOME/.cache/atelier/prompts}" --prompt-cache-size 2G \
  --system "$(cat -- "$instructions")" --prompt "$text" --temperature 0 "$@"
