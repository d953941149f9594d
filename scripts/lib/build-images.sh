# Builds the images that are missing or out of date.
# An image is up to date when its label holds the hash of every file that goes into it and of its base.

source_label=workbench.source
release_gigabytes=20
service_gigabytes=3
hub_image=gpu-workbench-hub:local
agent_image=gpu-workbench-agent:local
guard_image=gpu-workbench-guard:local
build_arguments=()

# Builds every flavor of each release that WORKBENCH_RELEASES chooses, the hub and the agent.
build_images() {
  local name image chosen
  chosen=$(chosen_images)
  while read -r name image; do
    build_release "$name" "$image" lab "torch train lab" "$release_gigabytes"
    build_release "$name" "$image-train" train "torch train" "$service_gigabytes"
    build_release "$name" "$image-serve" serve "torch serve" "$service_gigabytes"
  done <<<"$chosen"
  build_hub_image
  build_image "$agent_image" agent "$service_gigabytes" "" spawner
  build_image "$guard_image" guard "$service_gigabytes" "" spawner
  if has_tls; then build_image "$tls_image" tls "$service_gigabytes" "" images/hub/proxy/hub-away.html; fi
}

# Builds the image of hub, proxy and broker.
build_hub_image() {
  build_image "$hub_image" hub "$service_gigabytes" "VERSION=$(product_version)" docs images/catalog.toml \
    jupyterhub_config.py spawner
}

# Prints the version that pyproject.toml states.
product_version() {
  sed -nE 's/^version = "([^"]+)"$/\1/p' "$repository/pyproject.toml"
}

# Prints "NAME IMAGE" for each release of the catalog.
catalog_images() {
  sed -nE -e 's/^\[releases\."([^"]+)"\]$/\1/p' -e 's/^image = "([^"]+)"$/\1/p' "$repository/images/catalog.toml" \
    | paste -d ' ' - -
}

# Prints of catalog_images what WORKBENCH_RELEASES names, in its order, or the catalog's default.
chosen_images() {
  local names name row
  read -ra names <<<"$(value_of WORKBENCH_RELEASES)"
  [ ${#names[@]} -gt 0 ] || mapfile -t names < <(sed -nE 's/^default = "([^"]+)"$/\1/p' "$repository/images/catalog.toml")
  for name in "${names[@]}"; do
    row=$(catalog_images | grep -F -m 1 "$name ") || true
    [ "${row%% *}" = "$name" ] \
      || fail "WORKBENCH_RELEASES names \"$name\", which images/catalog.toml does not: see there." 2
    printf '%s\n' "$row"
  done
}

# build_release RELEASE IMAGE FLAVOR LOCKS GIGABYTES: the image's labels say what its manifest does.
# The flavors after the first need room for their difference only.
build_release() {
  local release=$1 image=$2 flavor=$3 locks=$4 gigabytes=$5 key revision committed
  read -r revision committed < <(git -C "$repository" log -1 --format='%H %ct' 2>/dev/null || true) || true
  build_arguments=(--target "$flavor" --build-arg "REVISION=$revision"
    ${committed:+--build-arg "SOURCE_DATE_EPOCH=$committed"}
    --label "org.opencontainers.image.title=$(catalog_value "$release" title)"
    --label "org.opencontainers.image.version=$release-$flavor"
    --label "org.opencontainers.image.revision=$revision"
    --label "workbench.release=$release" --label "workbench.flavor=$flavor"
    --label "workbench.lock_sha256=$(hash_locks "$release" "$locks")")
  for key in python torch cuda cudnn nccl; do
    build_arguments+=(--label "workbench.$key=$(catalog_value "$release" "$key")")
  done
  build_image "$image" pytorch-cuda "$gigabytes" "RELEASE=$release" extensions/gpu-panel images/toolkit \
    images/catalog.toml
  build_arguments=()
}

# catalog_value RELEASE KEY: prints a text of the catalog.
catalog_value() {
  sed -nE -e "/^\[releases\.\"$1\"\]\$/,/^\[/ s/^$2 = \"([^\"]*)\".*/\1/p" "$repository/images/catalog.toml"
}

# hash_locks RELEASE LOCKS: over the locks one after the other in the order of their names.
hash_locks() {
  local lock
  for lock in $(printf '%s\n' $2 | LC_ALL=C sort); do cat "$repository/images/pytorch-cuda/$1/$lock.lock"; done \
    | sha256sum | cut -d ' ' -f 1
}

# build_image IMAGE FOLDER GIGABYTES BUILD_ARGUMENT PATH...: images/FOLDER and the paths go into the image.
# build_arguments holds more arguments of docker build, which change nothing that goes in.
build_image() {
  local image=$1 folder=$2 gigabytes=$3 argument=$4 hash old
  shift 4
  hash=$(source_hash "$argument" .dockerignore "images/$folder" images/build-tools "$@")
  if [ "$(docker image inspect --format "{{index .Config.Labels \"$source_label\"}}" "$image" 2>/dev/null)" = "$hash" ]; then
    return
  fi
  step "Building $image"
  require_disk "$gigabytes"
  old=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
  require_ca_bundle
  run_build "$image" --file "$repository/images/$folder/Dockerfile" --tag "$image" --label "$source_label=$hash" \
    ${argument:+--build-arg "$argument"} "${build_arguments[@]}"
  # The image that lost its last name goes too, unless a container still runs on it.
  if [ "$(docker image inspect --format '{{len .RepoTags}}' "$old" 2>/dev/null)" = 0 ]; then
    docker image rm "$old" >/dev/null 2>&1 || true
  fi
}

# source_hash WORD PATH...: over names, modes and contents of the files under the paths that .dockerignore lets through.
source_hash() {
  local word=$1 line ignored=()
  shift
  while IFS= read -r line; do
    case $line in
      '' | \#* | \!* | '*') ;;
      '**/'*) ignored+=(-name "${line#'**/'}" -o) ;;
      *) ignored+=(-path "$line" -o) ;;
    esac
  done <"$repository/.dockerignore"
  (
    cd "$repository" || exit
    printf '%s\n' "$word" "$(docker image inspect --format '{{.Id}}' "$base_image")"
    find "$@" \( "${ignored[@]}" -false \) -prune -o -type f -printf '%m %p\n' | LC_ALL=C sort
    find "$@" \( "${ignored[@]}" -false \) -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  ) | sha256sum | cut -d ' ' -f 1
}

# require_disk GIGABYTES: free where Docker keeps its images.
require_disk() {
  local root free
  root=$(docker info --format '{{.DockerRootDir}}')
  free=$(df --output=avail --block-size=1G "$root" | tail -n 1)
  ((free >= $1)) || fail "$root has $((free)) GB free and the images need $1 GB: \
make room there (docker image ls shows what Docker keeps) and run this again."
}

# run_build IMAGE ARGUMENT...: shows BuildKit's own display on a terminal, its steps elsewhere, its end when it fails.
run_build() {
  local image=$1 log status=0 arguments=()
  shift
  mapfile -t arguments < <(network_arguments)
  set -- "${arguments[@]}" "$@" "$repository"
  export DOCKER_BUILDKIT=1 BUILDX_BUILDER=default
  if [ -t 1 ]; then
    docker build "$@" || fail "$image could not be built: the lines above say why."
    return
  fi
  log=$(mktemp)
  docker build --progress=plain "$@" 2>&1 | tee "$log" | show_steps || status=$?
  [ "$status" -eq 0 ] || tail -n 30 "$log" >&2
  rm -f "$log"
  [ "$status" -eq 0 ] || fail "$image could not be built: the lines above say why."
}

# Prints each step that really runs when it begins; what comes from the cache says nothing.
show_steps() {
  local line steps=() number
  while IFS= read -r line; do
    if [[ $line =~ ^#([0-9]+)\ \[([a-z0-9-]+)\ +([0-9]+)/([0-9]+)\] ]]; then
      steps[BASH_REMATCH[1]]="${BASH_REMATCH[2]}: step ${BASH_REMATCH[3]} of ${BASH_REMATCH[4]}"
    elif [[ $line =~ ^#([0-9]+)\ [0-9]+\.[0-9]+\  ]]; then
      number=${BASH_REMATCH[1]}
      if [ -n "${steps[number]-}" ]; then note "${steps[number]}"; fi
      steps[number]=""
    elif [[ $line =~ ^#[0-9]+\ exporting\ layers$ ]]; then
      note "writing the image"
    fi
  done
}

# A bundle named by a setting has to exist; the default one is used only where it exists.
require_ca_bundle() {
  local bundle
  bundle=$(value_of WORKBENCH_CA_BUNDLE)
  if [ ! -r "$bundle" ] && [ "$bundle" != "$(default_of WORKBENCH_CA_BUNDLE)" ]; then
    fail "WORKBENCH_CA_BUNDLE=\"$bundle\" cannot be read: name a file of CA certificates or remove the setting." 2
  fi
}

# Prints, one word per line, how a build reaches the network: the CA bundle as a secret, the proxy of this shell.
network_arguments() {
  local bundle name
  bundle=$(value_of WORKBENCH_CA_BUNDLE)
  if [ -r "$bundle" ]; then printf '%s\n' --secret "id=ca,src=$bundle"; fi
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    if [ -n "${!name-}" ]; then printf '%s\n' --build-arg "$name"; fi
  done
}
