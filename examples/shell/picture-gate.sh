#!/usr/bin/env bash
# A gate for CI: fails with exit code 4 where the same prompts and seeds no longer give the same pictures.
#
#   examples/shell/picture-gate.sh jobs.jsonl pictures.sha256 --update     # once: what the pictures are
#   examples/shell/picture-gate.sh jobs.jsonl pictures.sha256              # in every run: whether they still are
#
# jobs.jsonl is a file for sd-txt2img --jobs whose jobs have an id; flags of sd-txt2img may follow. On one machine and build the
# bytes are the same; for others record them anew. TXT2IMG names another sd-txt2img.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
txt2img=${TXT2IMG:-$root/build/release/bin/sd-txt2img}
jobs=${1:?usage: picture-gate.sh JOBS.jsonl HASHES [--update] [flags of sd-txt2img]}
hashes=${2:?usage: picture-gate.sh JOBS.jsonl HASHES [--update] [flags of sd-txt2img]}
shift 2
update=false
if [[ ${1:-} == --update ]]; then
  update=true
  shift
fi
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

"$txt2img" --quiet --jobs "$jobs" --seed 1 --output "$scratch/%d.png" "$@" | python3 -c '
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    print(record.get("sha256", record.get("error")), record["id"], record.get("index", 0))' >"$scratch/found"
if $update; then
  cp -- "$scratch/found" "$hashes"
elif ! diff -u -- "$hashes" "$scratch/found" >&2; then
  echo "picture-gate: the pictures have changed" >&2
  exit 4
fi
