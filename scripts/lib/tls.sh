# Prepares the TLS service: its certificate, key and configuration.
# Everything is judged before a running workbench is touched.

tls_image=gpu-workbench-tls:local

has_tls() { [ "$(value_of WORKBENCH_TLS)" != off ]; }

# Prints the port of the public URL.
https_port() {
  local url
  url=$(value_of WORKBENCH_PUBLIC_URL)
  if [[ $url =~ ^https?://[^/:]+:([0-9]+) ]]; then printf '%s' "${BASH_REMATCH[1]}"; else printf 443; fi
}

# Fails with one sentence where a port is taken; without TLS the proxy's own is published.
require_ports() {
  if has_tls; then
    require_port "$(https_port)" "set another port in WORKBENCH_PUBLIC_URL"
    require_port "$(value_of WORKBENCH_HTTP_PORT)" "set WORKBENCH_HTTP_PORT to another port"
  else
    require_port "$(value_of WORKBENCH_PORT)" "set WORKBENCH_PORT to another port"
  fi
}

# Fails with one sentence where a file of the certificate is missing, before anything is built.
require_tls_files() {
  local name
  [ "$(value_of WORKBENCH_TLS)" = files ] || return 0
  for name in WORKBENCH_TLS_CERTIFICATE WORKBENCH_TLS_KEY; do
    [ -r "$(value_of "$name")" ] && [ -f "$(value_of "$name")" ] \
      || fail "$name=\"$(value_of "$name")\" cannot be read: name a file in PEM form." 2
  done
}

# Puts certificate, key and Caddyfile into the folder that the TLS service alone reads; all or none.
prepare_tls() {
  local folder=$state/secrets/tls new=$state/secrets/tls.new
  has_tls || return 0
  make_state
  rm -rf "$new"
  (umask 077 && mkdir -p "$state/secrets" "$new")
  if [ "$(value_of WORKBENCH_TLS)" = files ]; then
    cat "$(value_of WORKBENCH_TLS_CERTIFICATE)" >"$new/certificate.pem"
    cat "$(value_of WORKBENCH_TLS_KEY)" >"$new/key.pem"
  fi
  write_caddyfile "$new"
  chown -R "$tls_uid:$tls_uid" "$new"
  chmod 0400 "$new"/*
  chmod 0500 "$new"
  # the folder stays, because a running container has it mounted
  mkdir -p "$folder"
  rm -f "$folder"/*
  mv "$new"/* "$folder"
  rm -rf "$new"
  chown "$tls_uid:$tls_uid" "$folder"
  chmod 0500 "$folder"
}

# write_caddyfile FOLDER: the hub's code judges the certificate, Caddy its own configuration.
write_caddyfile() {
  local name arguments=() status=0
  while IFS= read -r name; do arguments+=(--env "$name"); done < <(compgen -e WORKBENCH_ || true)
  docker run --rm --network none --user 0:0 "${arguments[@]}" --volume "$1:/run/secrets:ro" "$hub_image" \
    python3 -m spawner.tls >"$1/Caddyfile" || status=2
  if [ "$status" = 0 ]; then
    docker run --rm --network none --user 0:0 --tmpfs /data --volume "$1:/run/secrets:ro" "$tls_image" \
      caddy validate --config /run/secrets/Caddyfile --adapter caddyfile >"$1/log" 2>&1 || status=1
  fi
  [ "$status" != 1 ] || tail -n 3 "$1/log" >&2
  rm -f "$1/log"
  [ "$status" != 0 ] || return 0
  rm -rf "$1"
  [ "$status" = 2 ] || fail "Caddy does not accept the configuration: the lines above say why; nothing was changed."
  exit 2
}

# Prints the file of the certificate in use; nothing while an ACME server has signed none.
certificate_file() {
  local volume
  if [ "$(value_of WORKBENCH_TLS)" = files ]; then value_of WORKBENCH_TLS_CERTIFICATE && return; fi
  volume=$(docker volume inspect --format '{{.Mountpoint}}' "$instance-tls" 2>/dev/null) || return 0
  find "$volume" -name "$(host_of_url).crt" -print -quit 2>/dev/null || true
}

host_of_url() { value_of WORKBENCH_PUBLIC_URL | sed -E 's,^https?://([^/:]+).*,\1,'; }

# Prints a hash of all that the TLS service reads.
hash_tls_files() { cat "$state"/secrets/tls/* 2>/dev/null | sha256sum | cut -d ' ' -f 1; }

# Removes what another value of WORKBENCH_TLS left.
remove_old_tls() {
  has_tls || docker network rm "$instance-tls" >/dev/null 2>&1 || true
}
