# Starts and stops the services of docker-compose.yml for this instance.
# Secrets are made once, kept in the state folder for root only, and never printed.

# spawner/policy/uids.py has them; a test compares.
hub_uid=2000000001
proxy_uid=2000000002
tls_uid=2000000004

# Of the site files that the services read; a changed one makes Compose start them again.
config_digest() { cat "$state/config/digest" 2>/dev/null || printf none; }

compose() {
  local files=(-f "$repository/docker-compose.yml") broker_network=none
  if [ -e "$state/gpus.compose.yml" ]; then files+=(-f "$state/gpus.compose.yml"); fi
  if has_tls; then
    files+=(-f "$repository/docker-compose.tls.yml")
    HTTPS_PORT=$(https_port) TLS_FILES=$(hash_tls_files)
    export HTTPS_PORT TLS_FILES
  fi
  if [ -e "$state/config/broker.compose.yml" ]; then files+=(-f "$state/config/broker.compose.yml"); fi
  if [[ $(value_of WORKBENCH_LEDGER_URL) == postgresql* ]]; then broker_network=bridge; fi
  plan_networks
  BROKER_NETWORK=$broker_network HUB_EGRESS=$(hub_egress) CONFIG_DIGEST=$(config_digest digest) \
    BOUNDS_DIGEST=$(config_digest bounds-digest) \
    docker compose --project-directory "$repository" --project-name "$instance" "${files[@]}" "$@"
}

# Prints whether the hub itself connects to anything but this host: a provider of log-ins, a database, an agent.
hub_egress() {
  if [ "$(value_of WORKBENCH_AUTHENTICATOR)" = native ] && [[ $(value_of WORKBENCH_LEDGER_URL) != postgresql* ]] \
    && [[ $(value_of WORKBENCH_AGENT_URL) == http://gpu-agent:* ]]; then
    printf no
  else printf yes
  fi
}

# Exports what docker-compose.yml says of the networks; a subnet is chosen once and stays as long as the network.
plan_networks() {
  local id
  [ -z "${USERS_SUBNET-}" ] || return 0
  id=$(printf '%s' "$instance" | sha256sum | cut -c 1-8)
  export USERS_BRIDGE=wb-$id USERS_CONTROL_BRIDGE=wbc-$id USERS_AGENT_BRIDGE=wba-$id
  USERS_SUBNET=$(subnet_of "$instance-users")
  [ -n "$USERS_SUBNET" ] || USERS_SUBNET=$(free_subnet)
  export USERS_SUBNET
  USERS_GATEWAY=$(address_in "$USERS_SUBNET" 1)
  USERS_PROXY=$(address_in "$USERS_SUBNET" 2)
  USERS_HUB=$(address_in "$USERS_SUBNET" 3)
  # the upper half
  USERS_RANGE=$(address_in "$USERS_SUBNET" $((1 << (31 - ${USERS_SUBNET#*/}))))/$((${USERS_SUBNET#*/} + 1))
  export USERS_GATEWAY USERS_PROXY USERS_HUB USERS_RANGE
}

subnet_of() { docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' "$1" 2>/dev/null || true; }

# Prints a subnet of Docker's own address pools that no network has: only Docker knows which are free.
free_subnet() {
  local probe subnet
  probe=$(docker network create "$instance-subnet-probe" 2>/dev/null) || probe=""
  subnet=$(subnet_of "$instance-subnet-probe")
  [ -z "$probe" ] || docker network rm "$probe" >/dev/null
  [ -n "$subnet" ] || fail "Docker has no free subnet for the network of the servers: remove unused networks \
('docker network prune'), or add to default-address-pools in /etc/docker/daemon.json."
  ((${subnet#*/} <= 28)) || fail "Docker's address pools give subnets of /${subnet#*/}: the network of the servers needs /28 \
or larger; see default-address-pools in /etc/docker/daemon.json."
  printf '%s' "$subnet"
}

# address_in SUBNET NUMBER
address_in() {
  local a b c d number
  IFS=. read -r a b c d <<<"${1%/*}"
  number=$(((a << 24) + (b << 16) + (c << 8) + d + $2))
  printf '%d.%d.%d.%d' $((number >> 24)) $((number >> 16 & 255)) $((number >> 8 & 255)) $((number & 255))
}

# A network that an older release made has no walls and cannot be changed: it is made again, without servers on it.
replace_old_networks() {
  local network bridge wanted
  plan_networks
  local -A bridges=([control]=$USERS_CONTROL_BRIDGE [agent]=$USERS_AGENT_BRIDGE [users]=$USERS_BRIDGE)
  for network in control agent users; do
    bridge=$(docker network inspect --format '{{index .Options "com.docker.network.bridge.name"}}' "$instance-$network" 2>/dev/null) || continue
    wanted=${bridges[$network]}
    [ "$bridge" != "$wanted" ] || continue
    [ -z "$(server_containers)" ] \
      || fail "The network $instance-$network is of an older release and servers run on it: run scripts/down, then this again."
    step "Replacing the networks of an older release"
    unset USERS_SUBNET
    USERS_SUBNET=172.28.0.0/16 compose down --timeout 10 >/dev/null 2>&1 || fail "The services could not be stopped: see 'docker compose -p $instance ps'."
    plan_networks
    return
  done
}

# Removes the guard's firewall rules; nothing of this instance may run any more.
remove_walls() {
  docker image inspect "$guard_image" >/dev/null 2>&1 || return 0
  plan_networks
  docker run --rm --network host --cap-drop ALL --cap-add NET_ADMIN --env "WORKBENCH_INSTANCE=$instance" "$guard_image" \
    python3 -m spawner.guard remove --subnet "$USERS_SUBNET" >&2 || fail "The firewall rules could not be removed: the line above says why."
}

# write_agent_devices UUIDS: the part of the Compose file that gives the gpu-agent its GPUs (lines; none for CPU only).
write_agent_devices() {
  local file=$state/gpus.compose.yml uuid
  if [ -z "$1" ]; then
    rm -f "$file"
    return
  fi
  {
    printf 'services:\n  gpu-agent:\n    deploy:\n      resources:\n        reservations:\n          devices:\n'
    printf '            - driver: cdi\n              capabilities: [gpu]\n              device_ids:\n'
    while IFS= read -r uuid; do printf '                - nvidia.com/gpu=%s\n' "$uuid"; done <<<"$1"
  } >"$file.new"
  mv "$file.new" "$file"
}

# Lets the services' own code judge the settings, all together, before anything that runs is touched.
check_settings() {
  local name arguments=()
  while IFS= read -r name; do arguments+=(--env "$name"); done < <(compgen -e WORKBENCH_ || true)
  docker run --rm --network none "${arguments[@]}" "$hub_image" python3 -m spawner.settings >&2 || exit 2
}

# Asks the OpenID provider of the settings: a wrong issuer ends the script, a silent provider is a note.
check_provider() {
  local name arguments=() secret
  secret=$(value_of WORKBENCH_OAUTH_CLIENT_SECRET_FILE)
  if [ -n "$secret" ] && [ ! -s "$secret" ]; then
    fail "WORKBENCH_OAUTH_CLIENT_SECRET_FILE=$secret has no client secret: write the secret to this file." 2
  fi
  [ "$(value_of WORKBENCH_AUTHENTICATOR)" = generic-oauth ] || return 0
  while IFS= read -r name; do arguments+=(--env "$name"); done < <(compgen -e WORKBENCH_ || true)
  docker run --rm "${arguments[@]}" "$hub_image" python3 -m spawner.hub.openid >&2 || exit 2
}

# Each service has a folder of secrets that its uid alone reads; hub and proxy share the proxy's token.
ensure_secrets() {
  local folder=$state/secrets
  (umask 077 && mkdir -p "$folder/hub" "$folder/proxy")
  ensure_secret "$folder/hub/JUPYTERHUB_CRYPT_KEY" "$(random_hex 32)"
  ensure_secret "$folder/hub/CONFIGPROXY_AUTH_TOKEN" "$(random_hex 32)"
  ensure_secret "$folder/proxy/CONFIGPROXY_AUTH_TOKEN" "$(cat "$folder/hub/CONFIGPROXY_AUTH_TOKEN")"
  copy_client_secret "$folder/hub/OAUTH_CLIENT_SECRET"
  chmod 0711 "$state" "$folder"
  chmod 0500 "$folder/hub" "$folder/proxy"
  chown -R "$hub_uid:$hub_uid" "$folder/hub"
  chown -R "$proxy_uid:$proxy_uid" "$folder/proxy"
  # a hub that runs reads it at its start; where none runs, there is nothing to restart
  [ -z "$has_new_client_secret" ] || compose restart --no-deps hub >/dev/null 2>&1 || true
}

# copy_client_secret FILE: the hub's copy of the client secret follows the admin's file.
copy_client_secret() {
  local source
  has_new_client_secret=""
  source=$(value_of WORKBENCH_OAUTH_CLIENT_SECRET_FILE)
  if [ -z "$source" ]; then
    rm -f "$1"
    return
  fi
  if [ -e "$1" ] && [ "$(cat "$1")" = "$(cat "$source")" ]; then return; fi
  rm -f "$1"
  ensure_secret "$1" "$(cat "$source")"
  has_new_client_secret=yes
}

# Removes the file of secrets and the network of an older release, which no service of this one uses.
remove_old_parts() {
  local network=$instance-internal
  rm -f "$state/secrets.env"
  [ "$(docker network inspect --format '{{index .Labels "com.docker.compose.project"}}' "$network" 2>/dev/null)" = "$instance" ] || return 0
  docker network rm "$network" >/dev/null 2>&1 \
    || note "the network $network of an older release is still in use: 'docker network inspect $network' says by which container"
}

# ensure_secret FILE VALUE: writes it unless it is there.
ensure_secret() {
  [ ! -s "$1" ] || return 0
  (umask 077 && printf '%s' "$2" >"$1.new")
  chmod 0400 "$1.new"
  mv "$1.new" "$1"
}

# Hands the volumes of an installation whose hub had another uid to the hub.
ensure_data_owner() {
  local volume path
  for volume in data run; do
    path=$(docker volume inspect --format '{{.Mountpoint}}' "$instance-$volume" 2>/dev/null) || continue
    [ "$(stat --format=%u "$path")" != "$hub_uid" ] || continue
    step "Giving $instance-$volume to the hub's uid $hub_uid"
    chown -R --no-dereference "$hub_uid:$hub_uid" "$path"
  done
}

random_hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# Prints what runs and is healthy, one container per line; the same before and after when nothing changed.
healthy_containers() { compose ps --format '{{.ID}} {{.Health}}' 2>/dev/null | grep ' healthy$' | sort || true; }

# Starts all services and waits until they are healthy; a failed first start is taken down again.
start_stack() {
  local before=$1 log
  log=$(mktemp)
  if compose up --detach --wait --wait-timeout 120 --remove-orphans >"$log" 2>&1; then
    rm -f "$log"
    return
  fi
  tail -n 5 "$log" >&2
  rm -f "$log"
  show_failed_services
  if [ -n "$before" ] && restore_site_files && compose up --detach --wait --wait-timeout 120 >/dev/null 2>&1; then
    fail "The workbench did not start with the changed site files: it runs with those before; the lines above say why."
  fi
  if [ -z "$before" ]; then compose down >/dev/null 2>&1 || true && remove_walls; fi
  fail "The workbench did not start: the lines above say why; correct it and run this again."
}

show_failed_services() {
  local name service status
  compose ps --all --format '{{.Name}} {{.Service}} {{.State}}/{{.Health}}' | while read -r name service status; do
    case $status in
      exited/* | dead/* | restarting/* | */unhealthy) ;;
      *) continue ;;
    esac
    printf '%s\n' "--- $service is ${status%%/*}; its last lines:" >&2
    docker logs --tail 15 "$name" >&2 2>&1 || true
  done
}

# Makes the first admin and prints the generated password, once.
ensure_admin() {
  local password answer
  [ "$(value_of WORKBENCH_AUTHENTICATOR)" = native ] || return 0
  password=$(head -c 1024 /dev/urandom | LC_ALL=C tr -dc 'a-hj-km-np-z2-9' | cut -c 1-20)
  answer=$(compose exec -T hub python3 -m spawner.hub.first_admin <<<"$password") \
    || fail "The first admin could not be made: see 'docker compose -p $instance logs hub'."
  [ "$answer" = created ] || return 0
  printf '\n    admin     %s\n    password  %s\n    (shown only now: keep it)\n' "$(value_of WORKBENCH_ADMIN)" "$password"
}

url() {
  local bind public
  public=$(value_of WORKBENCH_PUBLIC_URL)
  if [ -n "$public" ]; then
    printf '%s' "$public"
    return
  fi
  bind=$(value_of WORKBENCH_BIND)
  case $bind in
    0.0.0.0 | ::) bind=$(hostname -I 2>/dev/null | cut -d ' ' -f 1) ;;
    *:*) bind="[$bind]" ;;
  esac
  printf 'http://%s:%s' "${bind:-localhost}" "$(value_of WORKBENCH_PORT)"
}

# Users' servers share the hub's origin, unless the public URL has a host name and user domains are on.
recommend_user_domains() {
  local host
  host=$(value_of WORKBENCH_PUBLIC_URL)
  host=${host#*://}
  [[ $host =~ \.[a-z][a-z0-9-]*(:[0-9]+)?$ ]] && [ "$(value_of WORKBENCH_USER_DOMAINS)" != yes ] || return 0
  note "WORKBENCH_USER_DOMAINS=yes keeps users' pages apart from the hub's; it needs a DNS record and a certificate for *.${host%:*}"
}

# ids of the containers of people's servers (and of homes being prepared)
server_containers() { docker ps --all --quiet --filter "label=workbench.instance=$instance"; }

stop_servers() {
  local containers
  mapfile -t containers < <(server_containers)
  [ ${#containers[@]} -gt 0 ] || return 0
  note "stopping $(counted "${#containers[@]}" server)"
  docker stop "${containers[@]}" >/dev/null 2>&1 || true
  docker rm --force --volumes "${containers[@]}" >/dev/null 2>&1 || true
}
