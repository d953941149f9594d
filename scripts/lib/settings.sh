# Reads WORKBENCH_* from the environment and from .env, the environment first.
# A name that .env.example does not list, or a value that cannot be used, ends the script with code 2 before anything is done.

setting_names() { sed -nE 's/^#(WORKBENCH_[A-Z_]+)=.*/\1/p' "$repository/.env.example"; }

default_of() { sed -nE "s/^#$1=(.*)/\1/p" "$repository/.env.example"; }

value_of() {
  if [ -n "${!1+set}" ]; then printf '%s' "${!1}"; else default_of "$1"; fi
}

# Exports what a file such as .env sets and the environment does not, so that Compose and the scripts see the same values.
read_env_file() {
  local file=$1 line name value
  [ -e "$file" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] \
      || fail ".env has a line that is not NAME=value: \"$line\"; correct it or remove it." 2
    name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
    [[ $name == WORKBENCH_* ]] || continue
    require_known "$name" ".env"
    [ -n "${!name+set}" ] || export "$name=$(unquote "$value")"
  done <"$file"
}

# unquote TEXT: the value as Compose reads it: quotes removed, or else a trailing comment and blanks.
unquote() {
  local text=$1
  text=${text#"${text%%[![:space:]]*}"}
  case $text in
    \"*\"*) text=${text#\"} text=${text%%\"*} ;;
    \'*\'*) text=${text#\'} text=${text%%\'*} ;;
    *) text=${text%%[[:space:]]#*} text=${text%"${text##*[![:space:]]}"} ;;
  esac
  printf '%s' "$text"
}

require_known() {
  local likely
  if grep -qxF "$1" <<<"$(setting_names)"; then return; fi
  likely=$(nearest_setting "$1")
  if [ -n "$likely" ]; then
    fail "$1 in $2 is not a setting: did you mean $likely?" 2
  fi
  fail "$1 in $2 is not a setting: see .env.example for the names." 2
}

# nearest_setting NAME: the known name with the least edit distance, or nothing when none is near.
nearest_setting() {
  setting_names | awk -v wrong="$1" '
    function least(a, b, c) { return a < b ? (a < c ? a : c) : (b < c ? b : c) }
    function distance(s, t,  i, j, d) {
      for (i = 0; i <= length(s); i++) d[i, 0] = i
      for (j = 0; j <= length(t); j++) d[0, j] = j
      for (i = 1; i <= length(s); i++)
        for (j = 1; j <= length(t); j++)
          d[i, j] = least(d[i-1, j] + 1, d[i, j-1] + 1, d[i-1, j-1] + (substr(s, i, 1) != substr(t, j, 1)))
      return d[length(s), length(t)]
    }
    { far = distance(wrong, $0); if (best == "" || far < best) { best = far; name = $0 } }
    END { if (best <= 6) print name }'
}

require_value() {
  local name=$1 pattern=$2 description=$3 value
  value=$(value_of "$name")
  [[ $value =~ ^($pattern)$ ]] || fail "$name=\"$value\" cannot be used: it must be $description." 2
}

# require_between NAME LEAST MOST
require_between() {
  local description="a whole number from $2 to $3" value
  require_value "$1" '[0-9]{1,9}' "$description"
  value=$((10#$(value_of "$1")))
  ((value >= $2 && value <= $3)) || fail "$1=\"$(value_of "$1")\" cannot be used: it must be $description." 2
}

load_settings() {
  local name
  while IFS= read -r name; do require_known "$name" "the environment"; done < <(compgen -e WORKBENCH_ || true)
  read_env_file "$repository/.env"
  require_value WORKBENCH_PROFILE 'team|students' "team or students"
  read_env_file "$repository/spawner/profiles/$(value_of WORKBENCH_PROFILE).env"
  require_value WORKBENCH_INSTANCE '[a-z][a-z0-9-]{0,18}[a-z0-9]' "2 to 20 characters of a-z, 0-9 and -"
  require_value WORKBENCH_BIND '[0-9a-fA-F.:]+' "an IP address"
  require_between WORKBENCH_PORT 1 65535
  require_value WORKBENCH_PUBLIC_URL '|https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9_-]+)*/?' \
    "a URL such as https://gpu.lab.example or https://lab.example/gpu"
  require_value WORKBENCH_TLS 'off|files|acme' "off, files or acme"
  require_between WORKBENCH_HTTP_PORT 1 65535
  require_value WORKBENCH_USER_DOMAINS 'yes|no' "yes or no"
  require_value WORKBENCH_RELEASES '|v[0-9]+(\.[0-9]+)*( +v[0-9]+(\.[0-9]+)*)*' \
    "release names such as v2.7 v2.15, separated by blanks"
  require_between WORKBENCH_PIDS_LIMIT 64 4194304
  require_between WORKBENCH_FIRST_UID 1000 2000000
  require_between WORKBENCH_START_TIMEOUT 10 3600
  if [ -n "$(value_of WORKBENCH_MAX_GPUS)" ]; then require_between WORKBENCH_MAX_GPUS 0 1024; fi
  require_value WORKBENCH_CPU_LIMIT '|[0-9]{1,4}(\.[0-9]{1,2})?' "a number of CPUs such as 4 or 7.5"
  require_value WORKBENCH_MEMORY_LIMIT '[0-9]+(\.[0-9]+)?[KMGTkmgt]' "a size such as 512M, 8G or 1.5T"
  require_value WORKBENCH_SHM_SIZE '[0-9]+(\.[0-9]+)?[KMGTkmgt]' "a size such as 512M, 8G or 1.5T"
  instance=$(value_of WORKBENCH_INSTANCE)
  state=/var/lib/$instance
}

# The state folder is named after the instance, so it must not be another program's (/var/lib/docker, /var/lib/dpkg, …).
require_own_state() {
  if [ -e "$state" ] && [ ! -e "$state/.gpu-workbench" ]; then
    fail "$state belongs to something else: set WORKBENCH_INSTANCE to another name." 2
  fi
}

make_state() {
  mkdir -p -m 0755 "$state"
  touch "$state/.gpu-workbench"
}
