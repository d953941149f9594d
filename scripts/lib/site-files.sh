# Site files: copies the admin's folder, lets the hub's own code check the copy, and gives the copy to hub and broker.
# A running hub reads the copy that was checked last, so an edited file changes nothing before scripts/up accepts it.

max_config_megabytes=64

config_source() {
  local folder
  folder=$(value_of WORKBENCH_CONFIG_DIR)
  if [[ $folder != /* ]]; then folder=$repository/$folder; fi
  printf '%s' "$folder"
}

# Makes config.new of the state folder: hub/ has every file, broker/ the bounds alone.
stage_site_files() {
  local source staged=$state/config.new size
  source=$(config_source)
  [ -d "$source" ] || fail "WORKBENCH_CONFIG_DIR=$(value_of WORKBENCH_CONFIG_DIR) cannot be used: there is no folder $source." 2
  size=$(du --summarize --block-size=1M "$source" | cut -f 1)
  ((size <= max_config_megabytes)) \
    || fail "$source has $size MB, but it may have $max_config_megabytes MB: keep data sets elsewhere." 2
  make_state
  rm -rf "$staged"
  (umask 077 && mkdir -p "$staged/hub" "$staged/broker")
  cp --recursive --dereference --no-preserve=mode,ownership "$source/." "$staged/hub" \
    || fail "$source could not be copied: the line above says why." 2
  rm -rf "$staged"/hub/.[!.]*
  if [ -e "$staged/hub/bounds.toml" ]; then cp "$staged/hub/bounds.toml" "$staged/broker"; fi
  find "$staged/broker" -type f -exec sha256sum {} + | cut -c 1-16 >"$staged/bounds-digest"
  tar --sort=name --mtime=@0 --directory "$staged" --create --file - hub | sha256sum | cut -c 1-16 >"$staged/digest"
  chown -R "$hub_uid:$hub_uid" "$staged/hub"
  chmod -R u=rX,go= "$staged/hub"
  chmod 0711 "$staged"
}

# check_site_files: prints what the hub comes to; ends the script where the hub refuses the files.
check_site_files() {
  local name arguments=() status=0
  while IFS= read -r name; do arguments+=(--env "$name"); done < <(compgen -e WORKBENCH_ || true)
  docker run --rm --network none --read-only --tmpfs /tmp "${arguments[@]}" \
    --volume "$state/config.new/hub:/etc/workbench/config:ro" "$hub_image" workbench config check || status=$?
  [ "$status" -eq 0 ] && return
  rm -rf "$state/config.new"
  fail "The settings or the files of $(config_source) were not accepted: the line above says why. Nothing that runs was changed." 2
}

# Writes the part of the Compose file that shows the broker the folders of bounds.toml, to look for links.
write_broker_folders() {
  local file=$state/config.new/broker.compose.yml folder folders name arguments=()
  while IFS= read -r name; do arguments+=(--env "$name"); done < <(compgen -e WORKBENCH_ || true)
  folders=$(docker run --rm --network none "${arguments[@]}" --user 0:0 \
    --volume "$state/config.new/broker:/etc/workbench/config:ro" "$hub_image" python3 -m spawner.bounds_file) \
    || fail "bounds.toml was not accepted: the line above says why. Nothing that runs was changed." 2
  [ -n "$folders" ] || return 0
  printf 'services:\n  broker:\n    volumes:\n' >"$file"
  while IFS= read -r folder; do
    [ -d "$folder" ] || fail "bounds.toml names $folder, but there is no such folder. Nothing that runs was changed." 2
    [ "$(realpath "$folder")" = "$folder" ] \
      || fail "bounds.toml names $folder, which is a link: name $(realpath "$folder"). Nothing that runs was changed." 2
    printf '      - {type: bind, source: "%s", target: "/host%s", read_only: true, bind: {create_host_path: false}}\n' \
      "$folder" "$folder" >>"$file"
  done <<<"$folders"
}

# Makes the checked copy the one that services read from their next start on.
accept_site_files() {
  rm -rf "$state/config.old"
  if [ -e "$state/config" ]; then mv "$state/config" "$state/config.old"; fi
  mv "$state/config.new" "$state/config"
}

# Returns to the copy before, if there is another one.
restore_site_files() {
  [ -e "$state/config.old/digest" ] && ! cmp --silent "$state/config.old/digest" "$state/config/digest" || return 1
  rm -rf "$state/config"
  mv "$state/config.old" "$state/config"
}
