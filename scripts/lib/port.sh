# Says who holds a TCP port.
# Reads /proc only, so that a bare machine needs no tool for it.

# require_port PORT REMEDY: fails with one sentence when anything but this instance's own services listens on PORT.
require_port() {
  local port=$1 inode holder
  inode=$(listening_inode "$port")
  [ -n "$inode" ] || return 0
  holder=$(publisher "$port" '{{.Label "com.docker.compose.project"}}')
  [ "$holder" != "$instance" ] || return 0
  holder=$(publisher "$port" 'the container {{.Names}}')
  [ -n "$holder" ] || holder=$(process_of "$inode")
  fail "Port $port is taken by ${holder:-another process}: stop it, or $2."
}

# publisher PORT FORMAT: what docker says of the container that publishes PORT, if one does.
publisher() { { docker ps --filter "publish=$1" --format "$2" 2>/dev/null || true; } | head -n 1; }

# listening_inode PORT: the socket's inode, or nothing without a listener.
listening_inode() {
  awk -v port="$(printf '%04X' "$1")" \
    '$4 == "0A" && substr($2, length($2) - 3) == port { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

process_of() {
  local descriptor process
  descriptor=$(find /proc/[0-9]*/fd -lname "socket:\\[$1\\]" -print -quit 2>/dev/null)
  [ -n "$descriptor" ] || return 0
  process=${descriptor#/proc/} process=${process%%/*}
  printf '%s (process %s)' "$(cat "/proc/$process/comm")" "$process"
}
