#!/usr/bin/env bash
# What a picture should be of -> a caption by the small text model -> a picture by the small picture model.
#
#   examples/shell/illustrate.sh "a red circle" circle.png
#
# The caption goes to stderr, the picture's path to stdout; flags of sd-txt2img may follow. With other models, name them in
# TEXT_FLAGS and behind the path. TOOL names another gemma-generate, TXT2IMG another sd-txt2img.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
txt2img=${TXT2IMG:-$root/build/release/bin/sd-txt2img}
subject=${1:?usage: illustrate.sh SUBJECT PICTURE [flags of sd-txt2img]}
picture=${2:?usage: illustrate.sh SUBJECT PICTURE [flags of sd-txt2img]}
shift 2

# shellcheck disable=SC2086  # several flags in one variable
"$tool" --quiet --prompt "Write a caption for a picture of $subject." --seed 1 ${TEXT_FLAGS:-} |
  tee /dev/stderr |
  "$txt2img" --quiet --prompt - --seed 1 --output "$picture" "$@"
