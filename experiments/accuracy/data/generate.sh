#!/usr/bin/env bash
# generate.sh FOLDER BATCHES…: the stores FOLDER/SET_NN, one after the other on one core, e.g. `generate.sh data qm9_train:0 nmc:0`.
# Killed at any time, the same command continues where it was. PYTHON and GENERATE may name other programs.
set -euo pipefail
here=$(dirname "$(realpath "$0")"); folder=$1; shift
export OMP_NUM_THREADS=1
for item in "$@"; do
    name=${item%:*}; batch=${item#*:}
    mapfile -t settings < <("${PYTHON:-python}" "$here/sets.py" "$name" "$batch")
    output=$folder/${name}_$(printf %02d "$batch")
    nice -n 19 "${GENERATE:-deepdft-generate}" "${settings[@]}" "cluster=none" compression=zfp "output=$output"
done
