# Runs pytest inside an image: with its Python and packages, and no other package than pytest and what that needs.
# Nothing is installed into the image or left in the repository but the results.

# run_in_image LAYER IMAGE WORD...: WORDs are pytest's; the container gets every real GPU that CDI names.
run_in_image() {
  local layer=$1 image=$2 uuid devices=() site
  shift 2
  site=$("$venv/bin/python" -c 'import pytest; print(pytest.__path__[0].rpartition("/")[0])')
  if has_nvidia_driver; then
    while IFS= read -r uuid; do devices+=(--device "nvidia.com/gpu=$uuid"); done < <(nvidia_uuids)
  fi
  docker run --rm --init --network none --shm-size 2g --user "$(id -u):$(id -g)" "${devices[@]}" \
    --env HOME=/tmp --env PYTHONPATH=/repository/images/toolkit --env PYTHONDONTWRITEBYTECODE=1 \
    --env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
    --volume "$repository:/repository:ro" --volume "$artifacts:/artifacts" --volume "$site:/site:ro" \
    --workdir /repository --entrypoint python "$image" \
    -c 'import sys; sys.path.append("/site"); import pytest; sys.exit(pytest.main(sys.argv[1:]))' \
    "$@" --junitxml="/artifacts/$layer.xml" -o junit_suite_name="$layer"
}
