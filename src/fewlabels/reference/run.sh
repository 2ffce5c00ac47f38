#!/usr/bin/env bash
# Makes the runs of plan.json: bash run.sh --minutes 8
# Needs no network and writes nothing outside this folder, but the records to $OUT where it is set.
set -eu
started=$(date +%s)
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
if [ -n "${OUT:-}" ]; then OUT=$(cd "$OUT" && pwd); fi
cd "$(dirname "$0")"
# The machine's own packages may lie in the home that caches are kept away from.
export PYTHONUSERBASE="${PYTHONUSERBASE:-${HOME:-/nowhere}/.local}"
export HOME=$PWD/home TMPDIR=$PWD/tmp PYTHONPYCACHEPREFIX=$PWD/tmp/pycache
export FEWLABELS_DATA=$PWD/data FEWLABELS_CACHE=$PWD/cache
unset XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR TORCH_HOME TRITON_CACHE_DIR CUDA_CACHE_PATH
mkdir -p home tmp
if [ -d wheels ] && [ ! -d site ]; then
  "$python" -m pip --isolated --quiet --disable-pip-version-check --no-cache-dir install \
    --no-index --no-deps --no-compile --target tmp/site wheels/*.whl
  mv tmp/site site
fi
export PYTHONPATH="$PWD/src:$PWD/site${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m fewlabels.book.visit "$started" "$@"
