"""How long commands take from nothing, as whole processes that take turns.

python benchmarks/start_up.py [TURNS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import turns

BIN = Path(sys.executable).parent
COMMANDS = {
    'python -c "import torch"': [sys.executable, "-c", "import torch"],
    "ddpm --help": [str(BIN / "ddpm"), "--help"],
    "ddpm schedule show": [str(BIN / "ddpm"), "schedule", "show"],
    "ddpm sample -n 64": [str(BIN / "ddpm"), "sample", "-n", "64"],
    "ddpm sample -n 1": [str(BIN / "ddpm"), "sample", "-n", "1"],
    "import of diffusers' pipeline": [sys.executable, "-c", "from diffusers import DDPMPipeline"],
    "import of denoising-diffusion-pytorch": [sys.executable, "-c", "import denoising_diffusion_pytorch"],
}


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        own = {**os.environ, "DDPM_HOME": f"{place}/home"}
        peers = {**own, "PYTHONPATH": str(turns.PEERS)}
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for turn in range(count + 1):
            for name, words in COMMANDS.items():
                begun = time.perf_counter()
                environment = peers if name.startswith("import of") else own
                ended = subprocess.run(words, cwd=place, env=environment, capture_output=True, check=False)
                if ended.returncode == 0 and turn:  # the first only fills caches
                    seconds[name].append(time.perf_counter() - begun)
    base = seconds[next(iter(COMMANDS))]
    rows = []
    for name, mine in seconds.items():
        if len(mine) == count:
            beyond = statistics.median(a - b for a, b in zip(mine, base, strict=True))
            rows.append([name, f"{statistics.median(mine):.2f}", f"{beyond:+.2f}"])
    print(f"{turns.circumstances()}; {count} turns.\n")
    print(turns.table(["command", "seconds", "beyond import torch"], rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
