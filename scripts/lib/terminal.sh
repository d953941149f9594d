# Speaks to the person at the terminal.
# Progress goes to stdout; an error is one sentence on stderr that says what was wrong and what to do.

step() { printf '\n==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }

# counted NUMBER NOUN: "1 home", "2 homes".
counted() { if [ "$1" -eq 1 ]; then printf '1 %s' "$2"; else printf '%s %ss' "$1" "$2"; fi; }

# fail SENTENCE [EXIT_CODE]: ends the script; code 2 is for wrong usage or settings, 1 for everything else.
fail() {
  printf 'error: %s\n' "$1" >&2
  exit "${2:-1}"
}

# require_root WHAT
require_root() { [ "$(id -u)" -eq 0 ] || fail "$1 needs root: run this again with sudo."; }
