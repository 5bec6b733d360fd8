# shellcheck shell=bash disable=SC2154  # common.sh sets root, deps and venv
# What pip installs into .venv: CMake, Ninja, LibTorch. Sourced by scripts/quickstart after common.sh and system.sh.

torch_version=2.13.0   # LibTorch.cmake names the series

# find_python: prints the command of a Python that LibTorch's wheels support.
find_python() {
  if python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then command -v python3; fi
}

has_pip() { "$venv/bin/python3" -m pip --version >/dev/null 2>&1; }

# make_venv PYTHON: .venv with pip. Debian keeps what makes virtual environments in a package of its own, python3-venv;
# without it, pip itself is taken from the wheel that Debian packages.
make_venv() {
  if [[ ! -x $venv/bin/python3 ]]; then
    "$1" -m venv --without-pip "$venv" >/dev/null || die "$1 cannot make the virtual environment $venv"
  fi
  "$venv/bin/python3" -c '' 2>/dev/null || die "$venv is broken" "remove it and run this again"
  if has_pip || { "$venv/bin/python3" -m ensurepip >/dev/null 2>&1 && has_pip; }; then return; fi
  local wheels
  wheels=$(compgen -G "$deps/usr/share/python-wheels/pip-*.whl" || compgen -G '/usr/share/python-wheels/pip-*.whl') ||
    die "python3 cannot install pip" "install Debian's package python3-venv"
  "$venv/bin/python3" "${wheels%%$'\n'*}/pip" install --quiet --no-index "${wheels%%$'\n'*}" ||
    die "pip could not be installed into $venv"
}

# pip_install WHAT ARGUMENT...
pip_install() {
  local what=$1
  shift
  "$venv/bin/python3" -m pip --disable-pip-version-check install "$@" ||
    die "$what could not be installed with pip" "is the network up, and pip's index reachable? then run this again"
}

# torch_series FOLDER: the version of the LibTorch in FOLDER, or nothing if there is none.
torch_series() {
  local header=$1/include/torch/headeronly/version.h
  if [[ -e $1/lib/libtorch_cpu.so && -e $1/include/ATen/ATen.h && -e $header ]]; then
    sed -nE 's/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+).*/\2/p' "$header" | paste -sd . -
  fi
}

has_gpu() { compgen -G '/dev/nvidia[0-9]*' >/dev/null || nvidia-smi -L >/dev/null 2>&1; }

# is_complete FOLDER: is the wheel in .venv wholly installed? pip writes RECORD last. A CUDA wheel installed without the
# NVIDIA libraries is complete as long as there is no GPU.
is_complete() {
  compgen -G "$1/../torch-*.dist-info/RECORD" >/dev/null || return 1
  if [[ -e $1/lib/libtorch_cuda.so ]] && has_gpu; then compgen -G "$1/../nvidia/*/lib/libcublas.so*" >/dev/null; fi
}

# find_torch: prints the folder of LibTorch 2.13: named by the user, in .venv, or an installed wheel of python3.
find_torch() {
  local prefixes=() prefix candidates=()
  IFS=: read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  candidates+=("${ATELIER_TORCH_ROOT:-}")
  if [[ -n ${Torch_DIR:-} ]]; then candidates+=("$Torch_DIR/../../.."); fi
  for prefix in "${prefixes[@]}"; do candidates+=("$prefix" "$prefix/torch"); done
  candidates+=("$venv"/lib/python3*/site-packages/torch)
  candidates+=("$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null || true)")
  for prefix in "${candidates[@]}"; do
    if [[ -z $prefix || $(torch_series "$prefix") != "${torch_version%.*}".* ]]; then continue; fi
    if [[ $prefix == "$venv"/* ]] && ! is_complete "$prefix"; then continue; fi
    (cd -- "$prefix" && pwd)
    return
  done
}

# free_space MEBIBYTES WHAT_FOR
free_space() {
  local free
  free=$(df -Pm "$root" | awk 'NR == 2 { print $4 }')
  if ((free < $1)); then die "$2 needs $1 MiB of disk space in $root, which has $free MiB" "make room and run this again"; fi
}

# wheel_metadata FILE
wheel_metadata() {
  "$venv/bin/python3" - "$1" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    print(wheel.read(name).decode())
PYTHON
}

# cuda_runtime METADATA: of a CUDA wheel's requirements the two that its CPU part, libtorch_cpu.so, is linked with.
cuda_runtime() {
  sed -nE -e 's/^Requires-Dist: *(cuda-toolkit)\[[^]]*\](==[0-9.]+).*/\1[cudart,cupti]\2/p' \
    -e 's/^Requires-Dist: *(nvidia-cuda-(runtime|cupti)[a-z0-9-]*==[0-9.]+).*/\1/p' <<<"$1"
}

# install_torch: downloads the wheel first, because only then it shows which kind pip's index has. The CPU wheel brings
# all that we need. A CUDA wheel needs NVIDIA's libraries: all of them where there is a GPU, else two small ones.
install_torch() {
  local folder=$deps/wheels wheel metadata requirements=(--no-deps)
  free_space 3000 "LibTorch"
  rm -rf "$folder"
  mkdir -p "$folder/tmp"
  TMPDIR=$folder/tmp "$venv/bin/python3" -m pip --disable-pip-version-check download --no-deps --only-binary :all: \
    --dest "$folder" "torch==$torch_version" ||
    die "LibTorch $torch_version could not be downloaded" \
      "is the network up? or name an unpacked LibTorch: CMAKE_PREFIX_PATH=/path/to/libtorch $0"
  wheel=$(compgen -G "$folder/torch-*.whl")
  metadata=$(wheel_metadata "$wheel")
  if [[ $metadata =~ Requires-Dist:\ *(cuda|nvidia)- ]]; then
    if has_gpu; then
      echo "It is a CUDA wheel, and there is a GPU: NVIDIA's libraries are installed too, about 2.5 GB more to download."
      free_space 9000 "LibTorch with CUDA"
      requirements=()
    else
      echo "It is a CUDA wheel, and there is no GPU: of NVIDIA's libraries only the runtime is installed."
      mapfile -t requirements < <(cuda_runtime "$metadata")
      TMPDIR=$folder/tmp pip_install "CUDA's runtime" --quiet "${requirements[@]}"
      requirements=(--no-deps)
    fi
  fi
  TMPDIR=$folder/tmp pip_install "LibTorch $torch_version" --quiet --force-reinstall "${requirements[@]}" "$wheel"
  rm -rf "$folder"
}
