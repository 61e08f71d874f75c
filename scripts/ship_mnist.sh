#!/usr/bin/env bash
# Makes the shipped model `mnist`: trains the default preset on all 60,000 images and puts the result into the package.
# A first run of 3,940 steps, 40 minutes on the machine in src/ddpm_cli/weights/mnist.json, and then a longer budget for
# it: the learning rate rises once more and falls to 0 again. A run that was stopped goes on with: ddpm train --resume
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-../mnist-run}
ddpm train --dataset mnist --steps 3940 --seed 0 --output "$run"
ddpm train --resume "$run" --steps 6440
python scripts/ship.py "$run" mnist
python scripts/score.py mnist
