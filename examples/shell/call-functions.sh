#!/usr/bin/env bash
# A request in plain English -> function calls -> their results -> the model's answer (FunctionGemma).
#
#   examples/shell/call-functions.sh "Draw a red circle on white."
#
# Prints the calls, one JSON object a line, then the answer. `run_call` is where calls would be carried out. TOOL and CHAT
# name other gemma-generate and gemma-chat.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
chat=${CHAT:-$root/build/release/bin/gemma-chat}
request=${1:?usage: call-functions.sh REQUEST [flags of gemma-generate]}
shift
tools=$(mktemp)
trap 'rm -f "$tools"' EXIT

cat >"$tools" <<'JSON'
[{"type": "function", "function": {
  "name": "draw_scene", "description": "Draws a shape on a background.",
  "parameters": {"type": "object", "required": ["background", "item"], "properties": {
    "background": {"type": "string", "description": "The background colour."},
    "item": {"type": "object", "description": "The shape to draw.", "required": ["colour", "shape"], "properties": {
      "colour": {"type": "string", "description": "The colour."},
      "shape": {"type": "string", "description": "The kind of shape."}}}}}}}]
JSON

# The call's record on stdin -> the history with the calls and their results on stdout; nothing where none was called.
run_call() {
  python3 -c '
import json, sys
calls = json.load(sys.stdin).get("tool_calls", [])
for call in calls:
    print(json.dumps(call["function"]), file=sys.stderr)
if calls:
    results = [{"role": "tool", "name": c["function"]["name"], "content": {"done": True}} for c in calls]
    print(json.dumps([{"role": "user", "content": sys.argv[1]}, {"role": "model", "tool_calls": calls}] + results))' "$request"
}

record=$("$tool" --quiet --json --tools "$tools" --prompt "$request" --temperature 0 "$@")
exec 3>&1
history=$(run_call 2>&3 <<<"$record")
if [[ -n $history ]]; then
  "$chat" --quiet --messages - --tools "$tools" --temperature 0 "$@" <<<"$history"
else
  python3 -c 'import json, sys; print(json.load(sys.stdin)["text"])' <<<"$record"
fi
