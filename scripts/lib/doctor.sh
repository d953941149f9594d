# Looks at everything that GPU containers need of their host.
# It changes nothing; what scripts/up does by itself is a note, what a person has to do a failure, the rest unknown.

pci_devices=/sys/bus/pci/devices
loaded_modules=/proc/modules
device_folder=/dev
no_driver="there is no driver to ask"

# --- the driver

look_at_driver() {
  local said
  has_driver=no driver="" driver_cuda=""
  if said=$(nvidia-smi -L 2>&1); then
    has_driver=yes
    driver=$(query_gpus driver_version | head -n 1)
    driver_cuda=$(nvidia-smi -q 2>/dev/null | sed -nE 's/^CUDA( UMD)? Version *: *([0-9.]+).*/\2/p' | head -n 1)
    found driver ok "${driver:-of unknown version}${driver_cuda:+, for CUDA up to $driver_cuda}"
  elif [[ $said == *"version mismatch"* ]]; then
    found driver fails "it was updated while it was loaded" "Restart this machine."
  elif [ -n "$(nvidia_pci_devices)" ]; then
    found driver fails "no driver answers for the NVIDIA GPU at $(nvidia_pci_devices | paste -s -d ' ')" \
      "Install the NVIDIA driver (Debian: nvidia-driver; 580 or newer serves every release) and restart."
  elif command -v nvidia-smi >/dev/null; then
    found driver fails "nvidia-smi says: ${said%%$'\n'*}" "Repair the driver: 'modprobe nvidia' and dmesg say why it is not loaded."
  else
    found driver note "none, and no NVIDIA GPU: servers compute on the CPU, or on simulated GPUs"
  fi
}

# query_gpus FIELD,…: one line per GPU; what nvidia-smi does not say, or the whole query, is empty.
query_gpus() {
  nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null | sed -E 's/\[[^]]*\]|N\/A//g; s/, */,/g' || true
}

# Addresses of NVIDIA's display controllers, one per line.
nvidia_pci_devices() {
  local device
  for device in "$pci_devices"/*; do
    if [ "$(cat "$device/vendor" 2>/dev/null)" = 0x10de ] && [[ $(cat "$device/class" 2>/dev/null) == 0x03* ]]; then
      echo "${device##*/}"
    fi
  done
}

look_at_modules() {
  local missing
  if [ "$has_driver" = no ] && [ -z "$(nvidia_pci_devices)" ]; then
    found "kernel modules" ok "none is needed"
  elif [ ! -r "$loaded_modules" ]; then
    found "kernel modules" unknown "$loaded_modules cannot be read"
  elif is_loaded nouveau; then
    found "kernel modules" fails "nouveau holds the GPU" \
      "Keep it away (echo 'blacklist nouveau' >/etc/modprobe.d/nouveau.conf; update-initramfs -u) and restart."
  elif [ "$has_driver" = no ]; then
    found "kernel modules" ok "nouveau is not in the way"
  else
    missing=$(for module in nvidia nvidia_uvm; do is_loaded "$module" || echo "$module"; done | paste -s -d ' ')
    if [ -z "$missing" ]; then found "kernel modules" ok "nvidia, nvidia_uvm"
    else found "kernel modules" fails "not loaded: $missing" "Run 'modprobe nvidia_uvm'; without it CUDA finds no GPU."
    fi
  fi
}

is_loaded() { grep -q "^$1 " "$loaded_modules"; }

# --- Docker

look_at_docker() {
  local version
  has_docker=no
  choose_client
  version=$(engine_version)
  if ! command -v docker >/dev/null; then found Docker note "not installed: scripts/up installs it"
  elif [ -z "$version" ] && [ "$(id -u)" -ne 0 ]; then
    found Docker unknown "it does not answer this user" "Run this as root or as a member of the group docker."
  elif [ -z "$version" ]; then found Docker note "it does not run: scripts/up starts it"
  else
    has_docker=yes
    if ! is_at_least "$version" "$least_engine"; then
      found Docker fails "$version has no CDI" "Upgrade to Docker Engine $least_engine or newer."
    elif ! { has_compose docker && docker buildx version >/dev/null 2>&1; }; then
      found Docker fails "$version, without its compose plugin ($least_compose or newer) or buildx plugin" \
        "Install the packages docker-compose-plugin and docker-buildx-plugin from where Docker came from."
    elif [ -z "$(cdi_directories)" ]; then
      found Docker note "$version, CDI is switched off: scripts/up switches it on" "Docker has to restart for it: scripts/up --restart-docker."
    else found Docker ok "$version, CDI in $(cdi_directories | paste -s -d ' ')"
    fi
  fi
}

# The parts that keep a container's processes inside: kernel, containerd, runc.
look_at_runtime() {
  local kernel version holes
  kernel=$(uname -r | grep -oE '^[0-9]+\.[0-9]+') || true
  if [ -z "$kernel" ]; then found kernel unknown "uname does not say its version"
  elif ! is_at_least "$kernel" "$least_kernel"; then
    found kernel fails "$kernel" "Upgrade to Linux $least_kernel or newer: older ones get no security fixes."
  else found kernel ok "$kernel"
  fi
  if [ "$has_docker" = no ]; then return; fi
  version=$(component_version containerd)
  if [ -z "$version" ]; then found containerd unknown "Docker does not say its version"
  elif ! is_at_least "$version" "$least_containerd"; then
    found containerd fails "$version has known holes" "Install containerd $least_containerd or newer from where Docker came from."
  else found containerd ok "$version"
  fi
  version=$(component_version runc)
  holes=$(runc_holes_left | paste -s -d ' ')
  if [ -z "$version" ]; then found runc unknown "Docker does not say its version"
  elif [ -n "$holes" ]; then
    found runc fails "$version lets a container reach the host: $holes" \
      "Upgrade to Debian 13 with its security updates, or take Docker's own packages, whose runc is ${fixed_runc%% *} or newer."
  else found runc ok "$version"
  fi
}

# A running workbench tries the walls itself; without one only Docker's own switch is known.
look_at_network() {
  local hub said code=0
  if [ "$has_docker" = no ]; then found network note "not tried: Docker does not run" && return; fi
  if grep -qsE '"iptables" *: *false' /etc/docker/daemon.json; then
    found network fails "Docker writes no firewall rules (\"iptables\": false in /etc/docker/daemon.json)" \
      "Remove that line and restart Docker: the walls between users' servers are built on its rules."
    return
  fi
  hub=$(docker ps --quiet --filter "label=com.docker.compose.project=$instance" --filter label=com.docker.compose.service=hub)
  if [ -z "$hub" ]; then found network note "not tried: the workbench $instance does not run" && return; fi
  said=$(docker exec "$hub" workbench network probe 2>&1) || code=$?
  said=$(paste -s -d ' ' <<<"$said")
  case $code in
    0) found network ok "servers reach no neighbour, no host and no service but the hub's API; $said" ;;
    1) found network fails "$said" "See docs/network.md; 'docker compose -p $instance logs guard' says what the guard did." ;;
    *) found network unknown "$said" "See 'docker compose -p $instance logs guard' and docs/network.md." ;;
  esac
}

# A setting of the admin's own may open what the profile closes.
look_at_profile() {
  local profile open=""
  profile=$(value_of WORKBENCH_PROFILE)
  if [ "$profile" = students ]; then
    if [ "$(value_of WORKBENCH_USER_DOMAINS)" != yes ]; then open="users' pages share the hub's address"; fi
    if [ "$(value_of WORKBENCH_EGRESS)" = open ]; then open=${open:+$open, }"servers reach the internet"; fi
    if [ -z "$(value_of WORKBENCH_HOME_QUOTA)" ]; then open=${open:+$open, }"homes have no quota"; fi
  fi
  if [ -n "$open" ]; then
    found profile note "$profile, but $open" "Remove WORKBENCH_USER_DOMAINS, WORKBENCH_EGRESS or WORKBENCH_HOME_QUOTA from .env for the profile's own."
  else found profile ok "$profile; docs/security.md lists what it allows"
  fi
}

# Days left of the certificate, only where the workbench answers https itself.
look_at_certificate() {
  local file end seconds days
  has_tls || return 0
  file=$(certificate_file)
  if [ -z "$file" ]; then found certificate note "none yet: the workbench gets it when it starts" && return; fi
  if ! command -v openssl >/dev/null; then found certificate unknown "openssl, which reads it, is not installed" && return; fi
  end=$(openssl x509 -noout -enddate -in "$file" 2>/dev/null) || true
  if [ -z "$end" ]; then
    found certificate unknown "$file cannot be read" "Run this as root; docs/tls.md says which form the file has."
    return
  fi
  seconds=$(($(date -d "${end#*=}" +%s) - $(date +%s)))
  days=$((seconds / 86400))
  if ((seconds < 0)); then found certificate fails "$file has expired" "Renew it and run scripts/up."
  elif ((days < 21)); then found certificate note "$(counted "$days" day) left of $file" "Renew it and run scripts/up."
  else found certificate ok "$(counted "$days" day) left of $file"
  fi
}

look_at_shm() {
  local size plain
  size=$(value_of WORKBENCH_SHM_SIZE)
  plain=$(sed -nE 's/.*"default-shm-size" *: *"([^"]+)".*/\1/p' /etc/docker/daemon.json 2>/dev/null || true)
  found "shared memory" ok "the workbench's servers get $size; a plain docker run gets ${plain:-64M} unless it says --shm-size"
}

look_at_disk() {
  local root="" free missing image
  if [ "$has_docker" = yes ]; then root=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null); fi
  root=${root:-/var/lib/docker}
  until [ -d "$root" ]; do root=$(dirname "$root"); done
  free=$(df --output=avail --block-size=1G "$root" 2>/dev/null | tail -n 1 | tr -d ' ')
  missing=$(chosen_images | while read -r _ image; do docker image inspect "$image" >/dev/null 2>&1 || echo "$image"; done | paste -s -d ' ')
  if [ -z "$free" ]; then found disk unknown "df does not say what is free at $root"
  elif [ -n "$missing" ] && ((free < release_gigabytes)); then
    found disk fails "$free GB free at $root; building $missing needs $release_gigabytes GB" \
      "Make room there: docker image ls shows what Docker keeps."
  else found disk ok "$free GB free at $root"
  fi
}

# --- how GPUs get into containers

look_at_toolkit() {
  local version
  if [ "$has_driver" = no ]; then found "container toolkit" ok "not needed: $no_driver" && return; fi
  version=$(nvidia-ctk --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1) || true
  if [ -z "$version" ]; then
    found "container toolkit" fails "nvidia-ctk does not answer" "Install the package nvidia-container-toolkit, $least_toolkit or newer."
  elif ! is_at_least "$version" "$least_toolkit"; then
    found "container toolkit" fails "$version" "Upgrade the package nvidia-container-toolkit to $least_toolkit or newer."
  else found "container toolkit" ok "$version"
  fi
}

look_at_cdi() {
  local files file stale missing old
  if [ "$has_driver" = no ]; then look_at_cdi_without_driver && return; fi
  if [ "$has_docker" = no ]; then found "CDI names" unknown "Docker does not say where it looks for them" && return; fi
  files=$(nvidia_spec_files)
  if [ -z "$files" ]; then
    found "CDI names" note "no specification yet: scripts/up makes it with '$generate_spec'"
    return
  fi
  nvidia_uuids | sort -u >"$work/has"
  for file in $files; do uuids_in "$file"; done | sort -u >"$work/named"
  stale=$(comm -13 "$work/has" "$work/named" | paste -s -d ' ')
  missing=$(comm -23 "$work/has" "$work/named" | paste -s -d ' ')
  old=$(for file in $files; do grep -ohE 'libcuda\.so\.[0-9]+\.[0-9.]+[0-9]' "$file"; done | sed 's/libcuda\.so\.//' | grep -vxF "$driver" | sort -u | paste -s -d ' ') || true
  if [ -n "$missing$stale" ]; then
    found "CDI names" fails "${missing:+no specification names $missing }${stale:+${missing:+and }the driver does not have $stale}" "Run '$generate_spec'."
  elif [ -n "$old" ]; then
    found "CDI names" fails "the specification is of driver $old, this host has $driver" "Run '$generate_spec'."
  else found "CDI names" ok "every GPU by its UUID in $(paste -s -d ' ' <<<"$files")"
  fi
}

look_at_cdi_without_driver() {
  local files=""
  if [ "$has_docker" = yes ]; then files=$(nvidia_spec_files); fi
  if [ -n "$files" ]; then
    found "CDI names" fails "$files names real GPUs, but no driver answers" "Repair the driver, or remove the file."
  elif [ -r "$(simulated_spec)" ]; then
    is_simulated=true
    found "CDI names" note "$(counted_devices SIMULATED "$(uuids_in "$(simulated_spec)")"): for a look at the workbench, they compute nothing"
  else found "CDI names" ok "none are needed"
  fi
}

# systemd writes its own list of a container's devices back at every daemon-reload: it must know the GPUs.
look_at_daemon_reload() {
  local cgroups legacy missing
  if [ "$has_driver" = no ]; then found daemon-reload ok "takes no GPU away: $no_driver" && return; fi
  if [ "$has_docker" = no ]; then found daemon-reload unknown "Docker does not say how it groups containers" && return; fi
  cgroups=$(docker info --format '{{.CgroupDriver}}' 2>/dev/null)
  legacy=$(legacy_containers | wc -l)
  missing=$(devices_without_symlink | paste -s -d ' ')
  if [ "$cgroups" = cgroupfs ]; then found daemon-reload ok "systemd does not group the containers here"
  elif [ "$cgroups" != systemd ]; then found daemon-reload unknown "Docker does not say how it groups containers"
  elif [ "$legacy" -gt 0 ]; then
    found daemon-reload fails "$(counted "$legacy" container) with GPUs of the legacy NVIDIA runtime, of which systemd knows nothing: 'systemctl daemon-reload' takes them away" \
      "Start them with --device nvidia.com/gpu=UUID instead of --gpus or --runtime nvidia."
  elif [ -n "$missing" ]; then
    found daemon-reload fails "no symlink in $device_folder/char for $missing: 'systemctl daemon-reload' takes the GPUs away (Failed to initialize NVML: Unknown Error)" \
      "Run 'nvidia-ctk system create-dev-char-symlinks --create-all' now and at every boot."
  else found daemon-reload ok "systemd knows the GPUs of containers"
  fi
}

# ids of running containers that got GPUs otherwise than through CDI
legacy_containers() {
  docker ps --quiet 2>/dev/null | while read -r id; do
    docker inspect --format '{{.HostConfig.Runtime}}{{range .HostConfig.DeviceRequests}} {{.Driver}}:{{.Capabilities}}{{end}}' "$id" \
      | grep -qE '^nvidia| nvidia:| :.*gpu' && echo "$id"
  done || true
}

devices_without_symlink() {
  local node numbers
  for node in "$device_folder"/nvidia*; do
    [ -c "$node" ] || continue
    numbers=$(stat --format='%Hr:%Lr' "$node")
    [ -e "$device_folder/char/$numbers" ] || echo "$node"
  done
}

# --- the GPUs

look_at_gpus() {
  local index uuid name capability cores memory gpu_driver
  [ "$has_driver" = yes ] || return 0
  # a driver too old for the field compute_cap refuses the whole query
  query_gpus index,uuid,memory.total,driver_version,name >"$work/gpus"
  query_gpus uuid,compute_cap >"$work/capabilities"
  python3 "$lib/gpu_cores.py" >"$work/cores" 2>/dev/null || true
  while IFS=, read -r index uuid memory gpu_driver name; do
    capability=$(sed -n "s/^$uuid,//p" "$work/capabilities")
    cores=$(sed -n "s/^$uuid //p" "$work/cores")
    found_gpu "$index" "$uuid" "$name" "$capability" "$cores" "$memory" "$gpu_driver" "$driver_cuda"
    print_release_verdicts "$index" "$gpu_driver" "$capability"
  done <"$work/gpus"
}

# print_release_verdicts INDEX DRIVER CAPABILITY: of the catalog's releases those that are offered.
print_release_verdicts() {
  local release cuda least architectures fit why advice offered
  offered=$(chosen_images)
  while IFS='|' read -r release cuda least architectures; do
    grep -q -F "$release " <<<"$offered" || continue
    judge "$cuda" "$least" "$architectures" "$2" "$driver_cuda" "$3"
    found_verdict "$1" "$release" "$fit" "$why" "$advice"
  done < <(release_stacks)
}
