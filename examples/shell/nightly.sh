#!/usr/bin/env bash
# A batch for cron: goes on where it was stopped, writes its result whole or not at all, and says how it went.
#
#   0 2 * * *  /path/to/atelier/examples/shell/nightly.sh jobs.jsonl replies.jsonl
#
# Exit codes: 0 everything done; 3 some jobs failed (their records say why); 75 stopped, run it again to go on.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
jobs=${1:?usage: nightly.sh JOBS.jsonl REPLIES.jsonl [flags of gemma-generate]}
replies=${2:?usage: nightly.sh JOBS.jsonl REPLIES.jsonl [flags of gemma-generate]}
shift 2

exec "$tool" --jobs "$jobs" --output "$replies" --resume --seed 1 --manifest "$replies.manifest.json" --quiet "$@"
