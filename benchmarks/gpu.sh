#!/bin/sh
# Everything that a GPU is needed for, in at most 10 minutes, on a machine with Python, torch and CUDA:
#
#   [PYTHON=python3] [WHEELS=wheels] [NANOGPT=path] [JOURNEY_DATA=path] sh benchmarks/gpu.sh [--dry]
#
# No network is asked for. What else is needed (transformers, safetensors; for stages and recipes all of pyproject.toml)
# is there, or lies as wheels in the folder WHEELS, from which what is missing is installed. Each part prints one line of
# JSON on stdout, all else goes to stderr; a part that fails, or takes longer than it may, does not stop those after it.
# --dry runs all of it, tiny, on a CPU too.
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
end=$(($(date +%s) + 580))

wheels=${WHEELS:-$root/wheels}
if [ -d "$wheels" ]; then
    # Never torch: the machine's own fits its driver.
    for wheel in "$wheels"/*.whl; do
        case ${wheel##*/} in
            torch-*) ;;
            *) "$python" -m pip install --quiet --no-index --no-deps "$wheel" >&2 || echo "not installed: $wheel" >&2 ;;
        esac
    done
fi

status=0
part() { # part NAME SECONDS [--dry]
    left=$((end - $(date +%s)))
    limit=$2
    [ "$left" -lt "$limit" ] && limit=$left
    if [ "$limit" -lt 5 ]; then
        echo "{\"part\": \"$1\", \"failed\": \"no time is left\"}"
        status=1
        return
    fi
    timeout -k 5 "$limit" "$python" "$root/benchmarks/gpu.py" "$1" $3
    code=$?
    [ "$code" -eq 0 ] || status=1
    # 0 and 1 have printed their line; everything else was ended from outside.
    [ "$code" -le 1 ] || echo "{\"part\": \"$1\", \"failed\": \"ended with $code after at most $limit s\"}"
}

part model-tests 70 "$1"
part speed 130 "$1"
part logits 20 "$1"
part muon 20 "$1"
part qlora 100 "$1"
part inference 50 "$1"
part books 130 "$1"
part stage-tests 60 "$1"
exit $status
