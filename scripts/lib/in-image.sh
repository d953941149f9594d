# Runs pytest inside an image, with the image's Python and packages.
# Packages of the tests come after the image's own in the search path; nothing is installed into the image.

image_tests=$repository/images/toolkit/tests/requirements
image_tests_home=$venv/in-image

# Installs what tests inside an image need where they are not there, for the Python of the images.
ensure_image_tests() {
  local platforms
  if cmp -s "$image_tests.lock" "$image_tests_home/requirements.lock"; then return; fi
  step "Installing what tests inside an image need"
  rm -rf "$image_tests_home"
  mapfile -t platforms < <(printf -- '--platform=manylinux_2_%d_x86_64\n' {5..28})
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/pip" install --quiet --require-hashes --no-deps --only-binary=:all: \
    --python-version 3.11 --platform=manylinux2014_x86_64 "${platforms[@]}" \
    --target "$image_tests_home/lib/python3.11/site-packages" --requirement "$image_tests.lock" \
    || fail "The Python packages of ${image_tests#"$repository"/}.lock could not be installed: see the lines above."
  cp "$image_tests.lock" "$image_tests_home/requirements.lock"
}

# run_in_image LAYER IMAGE WORD...: WORDs are pytest's; the container gets every real GPU that CDI names.
run_in_image() {
  local layer=$1 image=$2 uuid devices=()
  shift 2
  if has_nvidia_driver; then
    while IFS= read -r uuid; do devices+=(--device "nvidia.com/gpu=$uuid"); done < <(nvidia_uuids)
  fi
  docker run --rm --init --network none --shm-size 2g --user "$(id -u):$(id -g)" "${devices[@]}" \
    --env HOME=/tmp --env PYTHONPATH=/repository/images/toolkit --env PYTHONDONTWRITEBYTECODE=1 \
    --env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 --env OMP_NUM_THREADS=1 --env PYTHONNOUSERSITE= --env PYTHONUSERBASE=/tests --env HYPOTHESIS_STORAGE_DIRECTORY=/tmp \
    --volume "$repository:/repository:ro" --volume "$artifacts:/artifacts" --volume "$image_tests_home:/tests:ro" \
    --workdir /repository --entrypoint python "$image" -m pytest \
    -p no:cacheprovider "$@" --junitxml="/artifacts/$layer.xml" -o junit_suite_name="$layer"
}
