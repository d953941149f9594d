# Collects what a doctor finds and prints it as text or as JSON.
# tests/contract/doctor-report.json is a golden sample of the JSON; an empty value is unknown and becomes null.

check_lines=() gpu_lines=() verdict_lines=()
is_failing=no is_unknown=no is_simulated=false
separator=$'\x1f'

# found NAME STATE WHAT [ADVICE]: STATE is ok, note (works, with something to know), fails or unknown.
found() {
  note_state "$2"
  check_lines+=("$1$separator$2$separator$3$separator${4-}")
}

# found_gpu INDEX UUID NAME CAPABILITY CORES MEMORY_MIB DRIVER CUDA
found_gpu() {
  local IFS=$separator
  gpu_lines+=("$*")
}

# found_verdict INDEX RELEASE FIT WHY ADVICE
found_verdict() {
  local IFS=$separator
  note_state "$3"
  verdict_lines+=("$*")
}

note_state() { case $1 in fails) is_failing=yes ;; unknown) is_unknown=yes ;; esac }

# 1: something will not work; 2: something is unknown; 0: fine.
report_code() {
  if [ "$is_failing" = yes ]; then echo 1; elif [ "$is_unknown" = yes ]; then echo 2; else echo 0; fi
}

print_text() {
  local line name state what advice index release fit why
  for line in "${check_lines[@]}"; do
    IFS=$separator read -r name state what advice <<<"$line"
    printf '%-8s %-20s %s\n' "$state" "$name" "$what"
    if [ -n "$advice" ]; then printf '%-29s → %s\n' "" "$advice"; fi
  done
  print_table
  for line in "${verdict_lines[@]}"; do
    IFS=$separator read -r index release fit why advice <<<"$line"
    printf '%-8s GPU %s: %s %s\n' "$fit" "$index" "$release" "$why"
    if [ -n "$advice" ]; then printf '%-8s → %s\n' "" "$advice"; fi
  done
}

print_table() {
  local line index name capability cores memory driver cuda format='%-4s %-32s %-19s %-11s %-10s %-13s %s\n'
  [ ${#gpu_lines[@]} -gt 0 ] || return 0
  # shellcheck disable=SC2059 # one format for head and rows
  printf "\n$format" GPU name "compute capability" "CUDA cores" memory driver "its CUDA"
  for line in "${gpu_lines[@]}"; do
    IFS=$separator read -r index _ name capability cores memory driver cuda <<<"$line"
    if [ -n "$memory" ]; then memory="$((memory / 1024)) GiB"; fi
    # shellcheck disable=SC2059
    printf "$format" "$index" "${name:-unknown}" "${capability:-unknown}" "${cores:-unknown}" "${memory:-unknown}" \
      "${driver:-unknown}" "${cuda:-unknown}"
  done
}

print_json() {
  local line name state what advice comma=""
  printf '{"schema": 1, "place": "host", "simulated": %s, "exit_code": %s, "checks": [' "$is_simulated" "$(report_code)"
  for line in "${check_lines[@]}"; do
    IFS=$separator read -r name state what advice <<<"$line"
    printf '%s\n  {"name": %s, "state": %s, "found": %s, "advice": %s}' "$comma" \
      "$(json_text "$name")" "$(json_text "$state")" "$(json_text "$what")" "$(json_text "$advice")"
    comma=,
  done
  printf '],\n"gpus": ['
  print_json_gpus
  printf ']}\n'
}

print_json_gpus() {
  local line index uuid name capability cores memory driver cuda comma=""
  for line in "${gpu_lines[@]}"; do
    IFS=$separator read -r index uuid name capability cores memory driver cuda <<<"$line"
    printf '%s\n  {"index": %s, "uuid": %s, "name": %s, "compute_capability": %s, "cuda_cores": %s,' "$comma" "$index" \
      "$(json_text "$uuid")" "$(json_text "$name")" "$(json_text "$capability")" "${cores:-null}"
    printf ' "memory_total_bytes": %s, "driver_version": %s, "cuda_driver_version": %s, "simulated": false, "verdicts": {' \
      "$(json_bytes "$memory")" "$(json_text "$driver")" "$(json_text "$cuda")"
    print_json_verdicts "$index"
    printf '}}'
    comma=,
  done
}

print_json_verdicts() {
  local line index release fit why advice comma=""
  for line in "${verdict_lines[@]}"; do
    IFS=$separator read -r index release fit why advice <<<"$line"
    [ "$index" = "$1" ] || continue
    printf '%s\n    %s: {"fit": %s, "why": %s, "advice": %s}' "$comma" "$(json_text "$release")" \
      "$(json_text "$fit")" "$(json_text "$why")" "$(json_text "$advice")"
    comma=,
  done
}

json_bytes() { if [ -n "$1" ]; then echo $(($1 * 1048576)); else echo null; fi; }

json_text() {
  local text=${1//\\/\\\\}
  if [ -z "$text" ]; then printf null && return; fi
  text=${text//\"/\\\"}
  printf '"%s"' "${text//[[:cntrl:]]/ }"
}
