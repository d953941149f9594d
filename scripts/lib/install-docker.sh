# Installs Docker Engine from Debian's own packages.
# Debian 12 has no Docker with CDI, so there Debian 13's five Docker packages are taken and nothing else:
# Debian 13's runc needs a newer libc.

docker_packages=(docker.io docker-cli containerd docker-compose docker-buildx)

install_docker() {
  local codename suite=""
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") \
    || fail "Docker can be installed automatically on Debian only: install Docker Engine $least_engine or newer and run this again."
  step "Installing Docker Engine"
  if [ "$codename" = bookworm ]; then
    suite=/trixie
    add_trixie "$codename"
  fi
  # the packages of Debian 13 are signed with keys that an early Debian 12 did not have yet
  apt_install debian-archive-keyring ca-certificates
  apt_install "${docker_packages[@]/%/$suite}"
}

# Adds suite trixie from the mirror, and with the key and options, of this machine's own source of CODENAME.
add_trixie() {
  local codename=$1 from
  printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' >/etc/apt/preferences.d/workbench-trixie
  for from in /etc/apt/sources.list.d/*.sources; do
    [ -e "$from" ] || continue
    trixie_stanza "$codename" "$from" >/etc/apt/sources.list.d/workbench-trixie.sources
    [ ! -s /etc/apt/sources.list.d/workbench-trixie.sources ] || return 0
  done
  rm -f /etc/apt/sources.list.d/workbench-trixie.sources
  for from in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$from" ] || continue
    trixie_line "$codename" "$from" >/etc/apt/sources.list.d/workbench-trixie.list
    [ ! -s /etc/apt/sources.list.d/workbench-trixie.list ] || return 0
  done
  rm -f /etc/apt/sources.list.d/workbench-trixie.list /etc/apt/preferences.d/workbench-trixie
  fail "No apt source of Debian $codename was found to take Docker from: install Docker Engine $least_engine or newer by hand."
}

# trixie_stanza CODENAME FILE: the first deb822 stanza of CODENAME's main suite, rewritten for trixie.
trixie_stanza() {
  awk -v codename="$1" '
    function flush() {
      if (!done && enabled && kind ~ /(^| )deb( |$)/ && suites ~ "(^| )" codename "( |$)") { printf "%s", text; done = 1 }
      text = ""; kind = ""; suites = ""; enabled = 1
    }
    BEGIN { enabled = 1 }
    /^[ \t]*$/ { flush(); next }
    /^#/ { next }
    /^[ \t]/ { if (!skip) text = text $0 "\n"; next }
    {
      field = tolower($0); sub(/:.*/, "", field)
      value = $0; sub(/^[^:]*:[ \t]*/, "", value)
      skip = 0
      if (field == "types") { kind = value; $0 = "Types: deb" }
      else if (field == "suites") { suites = value; $0 = "Suites: trixie" }
      else if (field == "components") { $0 = "Components: main" }
      else if (field == "enabled") { enabled = tolower(value) != "no"; skip = 1; next }
      text = text $0 "\n"
    }
    END { flush() }' "$2"
}

# trixie_line CODENAME FILE: the first one-line source of CODENAME's main suite, rewritten for trixie.
trixie_line() {
  sed -nE "s/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+$1[[:space:]].*/deb \1\2 trixie main/p" "$2" \
    | head -n 1
}
