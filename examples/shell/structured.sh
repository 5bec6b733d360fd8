#!/usr/bin/env bash
# Replies that a program can rely on: three texts that a JSON Schema accepts, one line each.
#
#   examples/shell/structured.sh
#
# TOOL names another gemma-generate.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
schema=$(mktemp)
trap 'rm -f -- "$schema"' EXIT
cat >"$schema" <<'JSON'
{
  "type": "object",
  "properties": {
    "shape": {"enum": ["circle", "square", "triangle"]},
    "colour": {"enum": ["red", "green", "blue"]},
    "count": {"type": "integer", "minimum": 1, "maximum": 9}
  },
  "required": ["shape", "colour", "count"],
  "additionalProperties": false
}
JSON
"$tool" -p "Describe a picture." --json-schema "$schema" --count 3 --seed 1 --max-tokens 60 --json --quiet | python3 -c '
import json, sys
for line in sys.stdin:
    picture = json.loads(json.loads(line)["text"])
    print("{count} x {colour} {shape}".format(**picture))
'
