# Installs Debian packages.
# Says what it installs; apt's own output appears only when it fails.

apt_install() {
  local log
  require_root "Installing the Debian packages $*"
  log=$(mktemp)
  note "installing Debian packages: $*"
  if ! { apt_get update && apt_get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install $*: see the lines above."
  fi
  rm -f "$log"
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

# apt_ensure PACKAGE...: installs those that are missing.
apt_ensure() {
  local package missing=()
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}
