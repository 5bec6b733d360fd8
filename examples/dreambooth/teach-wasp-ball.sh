#!/usr/bin/env bash
# Teaches the small picture model that ships a subject, a yellow ball with black stripes, from four pictures, twice: with pictures of its
# class, circles, beside them, and without.
#
# The class is "circle", not "yellow circle": what the model draws of it then differs in colours, places and backgrounds. From pictures
# that are all alike the unconditional half of guidance learns them, too, and guidance leads away from them.
#
# DIR gets the pictures, the models in DIR/with and DIR/without, and samples of each model, shown together in DIR/samples.png. Prints a
# table, told by pixels (pictures.py): how many of 20 (COUNT) pictures of the subject show its stripes, and how many pictures of its class
# are still what they were asked to be: circles of its own colour and background, and of others. The same call goes on where it was
# stopped. Further flags go to sd-dreambooth.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
bin=${BIN:-$here/../../build/release/bin}
dir=${1:?usage: teach-wasp-ball.sh DIR [flags of sd-dreambooth]}
shift
token=wasp
class=circle
count=${COUNT:-20}

# job NAME PROMPT COUNT: a line for sd-txt2img.
job() {
  printf '{"prompt":"%s","count":%d,"seed":1,"output":"%s/%s-%%02d.png"}\n' "$2" "$3" "$folder" "$1"
}

# samples NAME [--model M]: pictures into DIR/samples/NAME, and a line of the table.
samples() {
  local folder=$dir/samples/$1 name=$1
  shift
  mkdir -p "$folder"
  {
    job subject "a $token $class" "$count"
    job class-yellow-white "a yellow circle on a white background" "$count"
    job other-blue-white "a blue circle on a white background" $(((count + 1) / 2))
    job other-green-yellow "a green circle on a yellow background" $(((count + 1) / 2))
  } | "$bin/sd-txt2img" --quiet --jobs - --batch-size 10 ${threads[@]+"${threads[@]}"} "$@" >/dev/null
  printf '| %s | %s | %s | %s |\n' "$name" "$(python3 "$here/pictures.py" subject "$folder"/subject-*.png)" \
    "$(python3 "$here/pictures.py" circles "$folder"/class-*.png)" "$(python3 "$here/pictures.py" circles "$folder"/other-*.png)"
}

# teach NAME [flags]: a model in DIR/NAME.
teach() {
  local name=$1
  shift
  "$bin/sd-dreambooth" --quiet --instance-images "$dir/pictures" --token "$token" --class "$class" \
    --template "a {token} {class}" --unet-lr 4e-4 --steps 300 --batch-size 4 --precision fp32 --cache-latents --seed 1 \
    --output "$dir/$name" "$@" >/dev/null
}

threads=()
for ((i = 1; i < $#; ++i)); do
  if [[ ${!i} == --threads ]]; then
    next=$((i + 1))
    threads=(--threads "${!next}")
  fi
done
python3 "$here/pictures.py" draw "$dir/pictures"
teach with --prior-weight 1 --num-class-images 60 --class-images "$dir/class" "$@"
teach without --prior-weight 0 "$@"
echo '| model | shows the subject | yellow circles on white are right | other circles are right |'
echo '| --- | ---: | ---: | ---: |'
samples before
samples with --model "$dir/with"
samples without --model "$dir/without"
python3 "$here/../png.py" sheet "$dir/samples.png" "$dir"/samples/{before,with,without}/{subject,class}-*0[0-4].png
echo "in $SECONDS s"
