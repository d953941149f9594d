# Finds the GPUs and gives them to the gpu-agent, each by its UUID.
# A GPU is used only when driver and CDI specification both know it; a simulated one is always called simulated.

nvidia_spec=/etc/cdi/nvidia.yaml
generate_spec="nvidia-ctk cdi generate --device-name-strategy=uuid --output=$nvidia_spec"

# prepare_gpus WISH: "auto", "never" (no simulated ones), or a number of simulated GPUs.
prepare_gpus() {
  local wish=$1 uuids=""
  step "Looking for GPUs"
  if [[ $wish =~ ^[0-9]+$ ]]; then
    uuids=$(simulated_gpus "$wish")
    say_simulated "$uuids"
  elif has_nvidia_driver; then
    require_nvidia_spec
    uuids=$(nvidia_uuids)
    note "$(counted_devices NVIDIA "$uuids")"
  else
    require_no_stale_spec
    if [ "$wish" = never ]; then
      note "no GPU: this workbench is CPU only"
    else
      uuids=$(simulated_gpus "$(simulated_number)")
      say_simulated "$uuids"
    fi
  fi
  make_state
  write_agent_devices "$uuids"
}

say_simulated() { note "$(counted_devices SIMULATED "$1"): for a look at the workbench, they compute nothing"; }

# counted_devices KIND UUIDS: such as "1 NVIDIA GPU and 7 NVIDIA MIG instances".
counted_devices() {
  local gpus instances
  gpus=$(grep -c '^GPU-' <<<"$2") || true
  instances=$(grep -c '^MIG-' <<<"$2") || true
  if [ "$instances" = 0 ]; then counted "$gpus" "$1 GPU"
  elif [ "$gpus" = 0 ]; then counted "$instances" "$1 MIG instance"
  else printf '%s and %s' "$(counted "$gpus" "$1 GPU")" "$(counted "$instances" "$1 MIG instance")"
  fi
}

has_nvidia_driver() { nvidia-smi -L >/dev/null 2>&1; }

# One UUID per line; a GPU that is split is named by its MIG instances, as CDI names it.
nvidia_uuids() {
  local uuid mode
  nvidia-smi --query-gpu=uuid,mig.mode.current --format=csv,noheader | while IFS=', ' read -r uuid mode; do
    if [ "$mode" = Enabled ]; then
      nvidia-smi -L | sed -n "/UUID: $uuid)/,/^GPU/p" | grep -oE 'MIG-[0-9A-Za-z/-]+' || true
    else
      printf '%s\n' "$uuid"
    fi
  done
}

# The specification files of real GPUs, wherever Docker looks for them.
nvidia_spec_files() {
  local directory
  while IFS= read -r directory; do
    [ -d "$directory" ] || continue
    grep -lsE 'nvidia\.com/gpu' "$directory"/*.yaml "$directory"/*.json | grep -v -- '-simulated\.json$' || true
  done < <(cdi_directories)
}

# uuids_in FILE: the UUIDs of the devices that a CDI specification defines (its other strings are no names).
uuids_in() { sed -nE 's/.*"?name"?: *"?((GPU|MIG)-[0-9A-Za-z/-]+)"?.*/\1/p' "$1" | sort -u; }

require_nvidia_spec() {
  local files file uuid has named=""
  files=$(nvidia_spec_files)
  if [ -z "$files" ]; then
    command -v nvidia-ctk >/dev/null || fail "The NVIDIA driver works but there is no CDI specification of its GPUs: \
install the package nvidia-container-toolkit and run this again."
    $generate_spec >/dev/null 2>&1 || fail "The CDI specification could not be made: see what '$generate_spec' says."
    note "wrote $nvidia_spec"
    files=$nvidia_spec
  fi
  has=$(nvidia_uuids)
  while IFS= read -r file; do
    for uuid in $(uuids_in "$file"); do
      grep -qxF "$uuid" <<<"$has" || fail "$file names $uuid, a GPU that the NVIDIA driver does not have: \
run '$generate_spec' and try again."
      named+=$uuid$'\n'
    done
  done <<<"$files"
  for uuid in $has; do
    grep -qxF "$uuid" <<<"$named" || fail "No CDI specification names $uuid, which the NVIDIA driver has: \
run '$generate_spec' and try again."
  done
}

# Without a driver a specification of real GPUs is a server with a broken driver, not one to simulate on.
require_no_stale_spec() {
  local file uuid
  while IFS= read -r file; do
    [ -n "$file" ] || continue
    uuid=$(uuids_in "$file" | head -n 1)
    [ -n "$uuid" ] || uuid="an NVIDIA GPU"
    fail "$file names $uuid, but no NVIDIA driver answers: repair the driver (nvidia-smi -L must work), \
or remove the file if this machine has no GPU."
  done <<<"$(nvidia_spec_files)"
}

simulated_spec() { printf '/etc/cdi/%s-simulated.json' "$instance"; }

# As many as this instance has already, or 2; a divided one counts once: each MIG instance is mounted with its GPU.
simulated_number() {
  local spec number=0
  spec=$(simulated_spec)
  [ ! -e "$spec" ] || number=$(grep -oE 'GPU-[0-9a-f-]+' "$spec" | sort -u | wc -l)
  echo $((number > 0 ? number : 2))
}

# simulated_gpus NUMBER: makes what is missing of them and prints the UUIDs of GPUs or of their MIG instances; what they
# say now, and how they are divided, is kept.
simulated_gpus() {
  local arguments=(create --gpus "$1" --instance "$instance" --wave-seconds 60 --dir "$state/simulated-gpus"
    --library "$state/libnvidia-ml.so.1" --cdi "$(simulated_spec)")
  make_state
  build_simulated_library
  mkdir -p /etc/cdi "$state/simulated-gpus"
  if command -v python3 >/dev/null; then
    python3 "$repository/simulation/simulate.py" "${arguments[@]}"
  else
    docker run --rm --network none --volume "$repository/simulation:/simulation:ro" --volume "$state:$state" \
      --volume /etc/cdi:/etc/cdi --entrypoint python3 "$hub_image" /simulation/simulate.py "${arguments[@]}"
  fi
}

# Builds it again when its source changed. The file is replaced as a whole, because running containers have it mounted.
build_simulated_library() {
  local library=$state/libnvidia-ml.so.1 source=$repository/simulation log
  if [ -e "$library" ] && [ -z "$(find "$source" -type f -not -name '*.py' -newer "$library" -print -quit)" ]; then return; fi
  log=$(mktemp)
  rm -rf "$state/library.new"
  if ! docker build --output "type=local,dest=$state/library.new" "$source" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    fail "The library of the simulated GPUs could not be built: see the lines above."
  fi
  touch "$state/library.new/libnvidia-ml.so.1"
  mv "$state/library.new/libnvidia-ml.so.1" "$library"
  rm -rf "$state/library.new" "$log"
}
