# Finds Docker Engine with CDI, Compose and BuildKit, or installs and starts it.
# A running daemon is never restarted under running containers unless the admin said so.

# shellcheck source=scripts/lib/minimum-versions.sh
. "$lib/minimum-versions.sh"

docker_log=/var/log/dockerd.log
runc_changelog=/usr/share/doc/runc/changelog.Debian.gz

# The daemon whose socket the broker mounts, whatever context the shell has.
export DOCKER_HOST=unix:///var/run/docker.sock
unset DOCKER_CONTEXT

# ensure_docker MAY_INSTALL MAY_RESTART ("yes" or "no")
ensure_docker() {
  local may_install=$1 may_restart=$2 found
  choose_client
  if ! docker_answers; then
    if ! command -v dockerd >/dev/null; then
      [ "$may_install" = yes ] || fail "There is no Docker Engine here and --no-install forbids installing it: \
install Docker Engine $least_engine or newer with its compose and buildx plugins, or leave out --no-install."
      # shellcheck source=scripts/lib/install-docker.sh
      . "$lib/install-docker.sh"
      install_docker
      choose_client
    fi
    [ "$may_install" = no ] || enable_cdi
    docker_answers || start_docker
  fi
  found=$(engine_version)
  ((${found%%.*} >= least_engine)) || fail "Docker Engine $found is too old: \
GPUs are handed out through CDI, which needs $least_engine or newer; upgrade Docker and run this again."
  ensure_plugins "$may_install"
  [ -n "$(cdi_directories)" ] || turn_cdi_on "$may_install" "$may_restart"
}

# Puts the first client that has the compose plugin first on PATH: an old one in /usr/local/bin may have none.
choose_client() {
  local client
  hash -r
  while IFS= read -r client; do
    if has_compose "$client"; then
      [ "$client" = "$(command -v docker)" ] || export PATH="${client%/*}:$PATH"
      return
    fi
  done < <(type -ap docker; echo /usr/bin/docker)
}

has_compose() {
  local version
  version=$("$1" compose version --short 2>/dev/null) || return 1
  version=${version#v}
  [ "$(printf '%s\n%s\n' "$least_compose" "$version" | sort -V | head -n 1)" = "$least_compose" ]
}

ensure_plugins() {
  if has_compose docker && docker buildx version >/dev/null 2>&1; then return; fi
  if [ "$1" = yes ] && dpkg -s docker.io >/dev/null 2>&1; then
    # shellcheck source=scripts/lib/install-docker.sh
    . "$lib/install-docker.sh"
    install_docker
    choose_client
  fi
  if has_compose docker && docker buildx version >/dev/null 2>&1; then return; fi
  fail "Docker's compose plugin ($least_compose or newer) or its buildx plugin is missing: \
install the packages docker-compose-plugin and docker-buildx-plugin from where Docker came from."
}

# component_version NAME: the version of containerd or runc as the running engine names it, without Debian's suffix.
component_version() {
  docker version --format '{{range .Server.Components}}{{.Name}} {{.Version}}{{println}}{{end}}' 2>/dev/null \
    | sed -nE "s/^$1 v?([0-9]+(\.[0-9]+)*).*/\1/p"
}

# Prints the holes of runc_holes that the running engine's runc still has; nothing when its version is unknown.
runc_holes_left() {
  local version hole
  version=$(component_version runc)
  if [ -z "$version" ] || has_runc_fixes "$version"; then return; fi
  for hole in $runc_holes; do
    zgrep -qs "$hole" "$runc_changelog" 2>/dev/null || echo "$hole"
  done
}

note_runc_holes() {
  local holes
  holes=$(runc_holes_left | paste -s -d ' ')
  [ -z "$holes" ] || note "runc $(component_version runc) has known holes ($holes): scripts/doctor says what to do"
}

# has_runc_fixes VERSION: whether its series is fixed from there on, or is newer than all of them.
has_runc_fixes() {
  local fixed
  for fixed in $fixed_runc; do
    if [ "${1%.*}" = "${fixed%.*}" ]; then is_at_least "$1" "$fixed"; return; fi
  done
  is_at_least "$1" "${fixed_runc##* }"
}

# is_at_least VERSION LEAST
is_at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null || true; }

# Folders with CDI specifications, one per line; nothing when the daemon has CDI switched off.
cdi_directories() { docker info --format '{{range .CDISpecDirs}}{{println .}}{{end}}' 2>/dev/null | sed '/^$/d'; }

# Switches CDI on in daemon.json (on by default only since Docker 28) and keeps all else there.
enable_cdi() {
  local file=/etc/docker/daemon.json merged
  mkdir -p "${file%/*}"
  if [ ! -s "$file" ]; then
    printf '{"features": {"cdi": true}}\n' >"$file"
    return
  fi
  command -v jq >/dev/null || apt_install jq
  merged=$(jq '.features.cdi = true' "$file" 2>/dev/null) \
    || fail "$file is not valid JSON: correct it (Docker reads it too) and run this again."
  printf '%s\n' "$merged" >"$file.new"
  mv "$file.new" "$file"
}

turn_cdi_on() {
  local may_install=$1 may_restart=$2
  if [ "$may_install" != yes ]; then
    fail "Docker has CDI switched off: add \"features\": {\"cdi\": true} to /etc/docker/daemon.json and restart Docker."
  fi
  if [ "$may_restart" != yes ] && [ -n "$(docker ps --quiet)" ]; then
    fail "Docker has CDI switched off and restarting it would stop the containers that run now: \
run this again with --restart-docker when that is all right."
  fi
  step "Switching CDI on in /etc/docker/daemon.json and restarting Docker"
  enable_cdi
  stop_docker
  start_docker
  [ -n "$(cdi_directories)" ] || fail "Docker still has CDI switched off after a restart: see $docker_log and 'docker info'."
}

has_systemd() { [ -d /run/systemd/system ]; }

start_docker() {
  step "Starting Docker"
  if has_systemd; then
    systemctl start docker || fail "Docker does not start: see 'journalctl -u docker'."
  else
    setsid dockerd >>"$docker_log" 2>&1 </dev/null &
  fi
  await 60 docker_answers || fail "Docker does not answer within 60 s: see $docker_log or 'journalctl -u docker'."
}

stop_docker() {
  if has_systemd; then
    systemctl stop docker.socket docker || fail "Docker does not stop: see 'journalctl -u docker'."
    return
  fi
  [ -s /var/run/docker.pid ] || fail "Docker runs without /var/run/docker.pid: restart it by hand to switch CDI on."
  kill "$(cat /var/run/docker.pid)"
  await 60 docker_is_gone || fail "Docker does not stop within 60 s: restart it by hand to switch CDI on."
}

docker_answers() { [ -n "$(engine_version)" ]; }

docker_is_gone() { [ ! -e /var/run/docker.pid ] || [ ! -d "/proc/$(cat /var/run/docker.pid)" ]; }

# await SECONDS COMMAND...: true as soon as COMMAND is, false when the time is over.
await() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}
