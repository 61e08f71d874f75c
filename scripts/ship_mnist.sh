#!/usr/bin/env bash
# Makes the shipped model `mnist`: trains the default preset on all 60,000 images and puts the result into the package.
# The number of steps is what 40 minutes were on the machine in src/ddpm_cli/weights/mnist.json; a run that was stopped
# goes on with: ddpm train --resume build/mnist
set -euo pipefail
cd "$(dirname "$0")/.."
ddpm train --dataset mnist --steps 3940 --seed 0 --output build/mnist
python scripts/ship.py build/mnist mnist
