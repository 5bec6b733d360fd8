#!/usr/bin/env bash
# Teaches the small picture model that ships a shape that it does not know, a bullseye, from four pictures.
#
# DIR gets the pictures, the LoRA in DIR/bullseye.safetensors with its run, and 20 samples (COUNT for each of four backgrounds) from
# before and after, on backgrounds that it was not shown with; some of them lie side by side in DIR/samples.png. Prints how many of them
# show the shape, told by their pixels (pictures.py). The same call goes on where it was stopped. Further flags go to sd-train-lora.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
bin=${BIN:-$here/../../build/release/bin}
dir=${1:?usage: teach-bullseye.sh DIR [flags of sd-train-lora]}
shift

# samples FOLDER [flags]: 20 pictures.
samples() {
  local folder=$1
  shift
  mkdir -p "$folder"
  for colour in grey white pink orange; do
    printf '{"id":"%s","prompt":"a bullseye on a %s background","count":%d,"seed":1,"output":"%s/%s-%%d.png"}\n' \
      "$colour" "$colour" "${COUNT:-5}" "$folder" "$colour"
  done | "$bin/sd-txt2img" --quiet --jobs - --batch-size 5 --cfg-scale 2 "$@" >/dev/null   # what four pictures taught needs little guidance
  python3 "$here/pictures.py" count "$folder"/*.png
}

python3 "$here/pictures.py" draw "$dir/pictures"
before=$(samples "$dir/before")
"$bin/sd-train-lora" --quiet --data "$dir/pictures" --output "$dir/bullseye.safetensors" --rank 16 --targets all \
  --train-text-encoder --steps 500 --batch-size 4 --unet-lr 1e-3 --te-lr 1e-3 --cache-latents --precision fp32 --seed 1 "$@"
after=$(samples "$dir/after" --lora "$dir/bullseye.safetensors" --strict)
python3 "$here/../png.py" sheet "$dir/samples.png" "$dir"/{before,after}/*-*[0-4].png
echo "bullseyes: $before before, $after after; $SECONDS s"
