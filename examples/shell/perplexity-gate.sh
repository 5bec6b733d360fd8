#!/usr/bin/env bash
# A gate for CI: fails with exit code 4 where a model finds a text more surprising than allowed.
#
#   examples/shell/perplexity-gate.sh release-notes.txt 400
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
text=${1:?usage: perplexity-gate.sh FILE LIMIT [flags of gemma-generate]}
limit=${2:?usage: perplexity-gate.sh FILE LIMIT [flags of gemma-generate]}
shift 2

perplexity=$("$tool" --quiet --raw --score --file "$text" --truncate tail "$@")
echo "perplexity $perplexity, limit $limit" >&2
awk -v p="$perplexity" -v l="$limit" 'BEGIN { exit p <= l ? 0 : 4 }'
