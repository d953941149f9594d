# Provides the base of every image, debian:bookworm-slim.
# A local image is used as it is; without a registry it is made from this host's own Debian mirror.

base_image=debian:bookworm-slim
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
pull_seconds=60

ensure_base_image() {
  if docker image inspect "$base_image" >/dev/null 2>&1; then return; fi
  step "Getting the base image $base_image"
  if timeout "$pull_seconds" docker pull --quiet "$base_image" >/dev/null 2>&1; then
    note "pulled"
  else
    note "no registry answers: making it with debootstrap, about half a minute"
    make_base_image
  fi
}

make_base_image() {
  local root mirror status=0
  require_root "Making the base image"
  command -v apt-get >/dev/null \
    || fail "$base_image cannot be pulled, nor made without apt-get: load it by hand (docker load) and run this again."
  apt_ensure debootstrap debian-archive-keyring
  mirror=$(host_mirror Debian)
  [ -n "$mirror" ] || fail "$base_image cannot be made: this host's apt has no Debian mirror; add one to its sources."
  root=$(mktemp -d)
  (set -e; bootstrap "$root" "$mirror"; slim_down "$root"; write_sources "$root" "$mirror"; import "$root") &
  wait $! || status=$?
  rm -rf "$root"
  [ "$status" -eq 0 ] || fail "The base image could not be made from $mirror: the lines above say why."
}

# host_mirror LABEL: where this host's own apt gets what LABEL ("Debian", "Debian-Security") names; nothing if nowhere.
host_mirror() {
  # shellcheck disable=SC2016 # apt's own placeholder
  apt-get indextargets --format '$(REPO_URI)' "Label: $1" 2>/dev/null | grep -m 1 '^http' || true
}

# bootstrap FOLDER MIRROR: shows debootstrap's phases, and its last lines when it fails.
bootstrap() {
  local log=$1.log line status=0
  while IFS= read -r line; do
    case $line in
      "I: "*" packages..." | "I: "*" base system..." | "I: Resolving"*) note "${line#I: }" ;;
    esac
  done < <(debootstrap --variant=minbase --keyring="$debian_keyring" bookworm "$1" "$2" 2>&1 | tee "$log")
  grep -q '^I: Base system installed successfully' "$log" || status=1
  [ "$status" -eq 0 ] || tail -n 15 "$log" >&2
  rm -f "$log"
  return "$status"
}

# slim_down FOLDER: removes docs and translations, which no container needs, now and for every package that is installed later.
slim_down() {
  local root=${1:?}
  printf 'path-exclude /usr/share/%s/*\n' doc man info locale lintian >"$root/etc/dpkg/dpkg.cfg.d/slim"
  printf 'path-include /usr/share/doc/*/copyright\n' >>"$root/etc/dpkg/dpkg.cfg.d/slim"
  find "$root/usr/share/doc" ! -type d ! -name copyright -delete
  find "$root"/usr/share/{man,info,locale,lintian} "$root"/var/{cache/apt,lib/apt/lists,log} "$root/dev" -mindepth 1 -delete
}

# write_sources FOLDER MIRROR
write_sources() {
  local security
  security=$(host_mirror Debian-Security)
  # mirrors keep the security suite next to their main archive
  printf 'deb %s %s main\n' "$2" bookworm "$2" bookworm-updates \
    "${security:-${2%/}-security}" bookworm-security >"$1/etc/apt/sources.list"
}

import() { tar -C "$1" --sort=name -c . | docker import --change 'CMD ["bash"]' - "$base_image" >/dev/null; }
