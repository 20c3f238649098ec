#!/usr/bin/env bash
# Everything that needs a CUDA device, in one go: tests, the search benchmark, and two trainings on CIFAR-10.
#
#   bash benchmarks/gpu.sh [MINUTES] [PART...]     parts: tests search train; by default all three
#
# MINUTES (default 15) is the time for the trainings: ALD-PGD on ResNet-18 with 1 and with 4 particles, bfloat16, the
# same number of epochs for both, chosen from the measured time of one epoch so that the two fit. Nothing in the run
# itself is cut short, so its record is whole; a run that is killed resumes when the same command is given again.
#
#   OUT     where the results go (default ./out): tests.xml, search.json, NAME.json of each run
#   DATA    folder of CIFAR-10 (default shared/data/cifar10, else ../shared/data/cifar10)
#   PYTHON  a Python with torch (default python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MINUTES="${1:-15}"
shift || true
PARTS="${*:-tests search train}"
PYTHON="${PYTHON:-python3}"
OUT="$(mkdir -p "${OUT:-out}" && cd "${OUT:-out}" && pwd)"
WORK="${WORK:-$PWD/runs/gpu}"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

if [[ -z "${DATA:-}" ]]; then
    DATA=shared/data/cifar10
    [[ -d "$DATA" ]] || DATA=../shared/data/cifar10
fi

"$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"'
needed='import datasets, jaxtyping, lightning, rich, safetensors, sklearn, tensorboard, torchmetrics, tyro, pytest, pytest_timeout, beartype'
if ! "$PYTHON" -c "$needed" 2>/dev/null; then
    # All but torch, whose build for this machine stays as it is.
    grep -v '^torch==' constraints.txt > "$OUT/constraints.txt"
    "$PYTHON" -m pip install --quiet --prefer-binary -c "$OUT/constraints.txt" '.[dev]'
    rm "$OUT/constraints.txt"
fi

failed=0

run_tests() {
    "$PYTHON" -m pytest tests/gpu -m gpu -o addopts= --strict-markers --import-mode=importlib -p no:cacheprovider \
        --jaxtyping-packages=aureole,beartype.beartype --junitxml="$OUT/tests.xml" || failed=1
}

run_search() {
    "$PYTHON" benchmarks/search.py --device cuda --json "$OUT/search.json" || failed=1
}

# train NAME PARTICLES EPOCHS [OPTION...]
train() {
    local name="$1" particles="$2" epochs="$3"
    shift 3
    "$PYTHON" -m aureole run robust-ald-pgd --setting cifar10 --data.source "$DATA" \
        --method.search.num-particles "$particles" --epochs "$epochs" \
        --accelerator cuda --precision bf16-mixed \
        --quiet --output "$WORK/$name" "$@" > "$OUT/$name.log" 2>&1 || { tail -n 20 "$OUT/$name.log"; return 1; }
    rm "$OUT/$name.log"
    cp "$WORK/$name/record.json" "$OUT/$name.json"
}

epoch_seconds() {
    "$PYTHON" -c 'import json, sys; print(min(json.load(open(sys.argv[1]))["seconds_per_epoch"]))' "$OUT/$1.json"
}

run_training() {
    local particles one=0 epochs
    for particles in 1 4; do  # two epochs, since the first one pays for start and tuning
        train "epoch-$particles" "$particles" 2 --evaluation.num-examples 250 --evaluation.attacks fgsm || return 1
        one="$("$PYTHON" -c 'import sys; print(sum(map(float, sys.argv[1:])))' "$one" "$(epoch_seconds "epoch-$particles")")"
    done
    # A tenth is left for the evaluation; at most the 100 epochs of the thesis.
    epochs="$("$PYTHON" -c 'import sys; m, s = map(float, sys.argv[1:]); print(max(1, min(100, int(0.9 * 60 * m / s))))' "$MINUTES" "$one")"
    echo "1 and 4 particles together take $one s an epoch: $epochs epochs each fit in $MINUTES minutes"
    for particles in 1 4; do
        train "ald-pgd-$particles" "$particles" "$epochs" \
            --optimizer.milestones $((epochs * 75 / 100 + 1)) $((epochs * 90 / 100 + 1)) \
            --evaluation.attacks pgd-20 pgd-50x2 --evaluation.num-examples 1000 \
            --proxy-reason "$epochs of 100 epochs, bfloat16, the first 1,000 test images" || return 1
    done
}

for part in $PARTS; do
    case "$part" in
        tests) run_tests ;;
        search) run_search ;;
        train) run_training || failed=1 ;;
        *) echo "unknown part '$part': tests, search or train" >&2; exit 2 ;;
    esac
done
exit "$failed"
