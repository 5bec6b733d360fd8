#!/usr/bin/env bash
# A folder of photographs -> the same photographs with what is masked painted anew, the model loaded once.
#
#   examples/shell/repaint-photos.sh photos repainted "a large red circle on a white background" --only-masked
#
# The mask of photos/NAME.jpg is photos/NAME.mask.png, or photos/NAME.svg, or what the flags of sd-inpaint at the end say
# (--mask-shape ellipse:200,150,90,60). Pictures that are there already are left alone, so the command can be run again.
# Prints a record for each; exit code 3 where some failed. INPAINT names another sd-inpaint.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
inpaint=${INPAINT:-$root/build/release/bin/sd-inpaint}
photos=${1:?usage: repaint-photos.sh PHOTOS OUTPUT PROMPT [flags of sd-inpaint]}
output=${2:?usage: repaint-photos.sh PHOTOS OUTPUT PROMPT [flags of sd-inpaint]}
prompt=${3:?usage: repaint-photos.sh PHOTOS OUTPUT PROMPT [flags of sd-inpaint]}
shift 3
mkdir -p -- "$output"

to_jobs() {
  python3 -c '
import json, pathlib, sys
photos, output, prompt = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
for photo in sorted(photos.iterdir()):
    if photo.suffix.lower() not in (".png", ".jpg", ".jpeg") or photo.stem.endswith(".mask"):
        continue
    job = {"id": photo.name, "init": str(photo), "output": str(output / (photo.stem + ".png")), "prompt": prompt}
    for key, mask in (("mask", photo.with_name(photo.stem + ".mask.png")), ("mask_svg", photo.with_suffix(".svg"))):
        if mask.exists():
            job[key] = str(mask)
            break
    print(json.dumps(job))' "$photos" "$output" "$prompt"
}

to_jobs | "$inpaint" --quiet --jobs - --resume --seed 1 "$@"
