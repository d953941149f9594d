# Judges whether a release runs on a GPU, by the rule of spawner/policy/compatibility.py.
# tests/contract/compatibility.json holds both to the same words; empty is unknown.

# release_stacks: "NAME|CUDA|DRIVER|ARCHITECTURE ARCHITECTURE…" for each release of the catalog.
release_stacks() {
  awk '
    function say() { if (name != "") print name "|" value["cuda"] "|" value["driver"] "|" value["architectures"] }
    /^\[/ { say(); name = ""; split("", value) }
    /^\[releases\."[^"]+"\]/ { split($0, part, "\""); name = part[2] }
    /^(cuda|driver|architectures) *=/ {
      split($0, pair, /[ =]/)
      sub(/#.*/, "")
      count = split($0, part, "\"")
      for (i = 2; i <= count; i += 2) value[pair[1]] = value[pair[1]] (i > 2 ? " " : "") part[i]
    }
    END { say() }' "$repository/images/catalog.toml"
}

# judge CUDA DRIVER ARCHITECTURES GPU_DRIVER GPU_CUDA CAPABILITY: sets fit, why and advice.
judge() {
  local cuda=$1 least=$2 architectures=$3 driver=$4 driver_cuda=$5 capability=$6 how="" only
  advice="" only="has only PTX for compute capability $capability"
  if is_version "$capability"; then how=$(reach "$capability" "$architectures"); fi
  if is_version "$driver" && ! is_at_least "$driver" "$least"; then
    fit=fails why="needs driver ≥ $least, this host has $driver"
    advice="Install NVIDIA driver $least or newer on the host."
  elif is_version "$capability" && [ -z "$how" ]; then
    fit=fails why="has no kernel for compute capability $capability, only $architectures"
    advice="Choose a release that is built for this GPU."
  elif ! is_version "$driver"; then say_unknown "the driver"
  elif ! is_version "$capability"; then say_unknown "the compute capability"
  elif ! is_version "$driver_cuda"; then say_unknown "the driver's CUDA version"
  elif [ "$how" = compute ] && is_at_least "$driver_cuda" "$cuda"; then
    fit=limited why="$only: the driver compiles it at first use" advice="Expect a slow first start."
  elif [ "$how" = compute ]; then
    fit=fails why="$only, and the driver's CUDA $driver_cuda compiles none of CUDA $cuda"
    advice="Install an NVIDIA driver for CUDA $cuda or newer on the host."
  elif ! is_at_least "$driver_cuda" "$cuda"; then
    fit=limited why="runs by CUDA minor-version compatibility: it has CUDA $cuda, the driver $driver_cuda"
    advice="What compiles PTX at run time needs a driver for CUDA $cuda."
  else
    fit=works why="runs on compute capability $capability"
  fi
}

say_unknown() { fit=unknown why="cannot be judged: $1 is unknown" advice="Run nvidia-smi on the GPU host."; }

# reach CAPABILITY ARCHITECTURES: "sm" for machine code of its major version, else "compute" for PTX, else nothing.
reach() {
  local word version how=""
  for word in $2; do
    version=${word#*_}
    version=${version%?}.${version: -1}
    is_at_least "$1" "$version" || continue
    if [[ $word == compute_* ]]; then how=compute
    elif [ "${version%.*}" = "${1%%.*}" ]; then echo sm && return
    fi
  done
  echo "$how"
}

is_version() { [[ $1 =~ ^[0-9]{1,6}(\.[0-9]{1,6})*$ ]]; }
