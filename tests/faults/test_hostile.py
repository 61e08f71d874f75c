"""Random hostile command lines, settings, headers, files and names: no traceback, no hang, little memory, no control
character on the terminal.

A case is determined by a seed and a number. A failure names both; ``HOSTILE=SEED:NUMBER pytest tests/faults/
test_hostile.py -m ''`` repeats it alone.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import typer

import mutation
from ddpm_cli.cli import app
from ddpm_cli.render.images import png
from faults.test_mutants import PARTS, clear, except_, forged, model_mutants, npz_mutants, settings_mutants, tried
from survival import Figure, Mutant, claim, ddpm, survive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits on memory as Linux has them")

ONE = os.environ.get("HOSTILE", "")  # SEED:NUMBER of the only case to run
CONTROLS = ["\x1b[31m", "\x1b]0;title\x07", "\r", "\n", "\x07", "\x9b2J", "\u202e", "\u2028", "\0"]
NUMBERS = [
    *("nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "9" * 25, "9" * 5000, "-1", "-0", "0", "0.0", "1", "2", "0.5"),
    *(str(2**31), str(2**63 - 1), str(2**63), str(2**64), str(-(2**63)), "1000000000", "1e3", "1_0", "0x10", "1,2", ""),
    *(" ", "x", "\u0661", "\u00b2", "--", "%", "100%", "1e", ".", "+", "\x1b[31m5", "5\n"),
]
WORDS = [
    *PARTS,
    *NUMBERS,
    *CONTROLS,
    *(f"a{each}b" for each in CONTROLS),
    "x" * 100_000,
    "all",
    "none",
    "0-9",
    "@3",
    "@",
]
KINDS = [
    b"",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    b"\x89PNG\r\n\x1a\n" + bytes(100),
    b"\xff\xd8\xff\xe0" + bytes(100),
    b"GIF89a" + b"\xff" * 100,
    b"\x80\x04\x95\x10\0\0\0\0\0\0\0cos\nsystem\n.",
    b"PK\x03\x04" + bytes(22) + b"\x10\0\0\0archive/data.pkl" + bytes(90),
    b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (9,), }",
    b"<!doctype html><title>\x1b[31m</title>",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b'{"a": ' * 1000,
    b"[" * 100_000,
    b"text \x1b]0;title\x07\n" * 9,
    b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(60),
    b"BM" + b"\xff" * 60,
    b"II*\0" + b"\xff" * 60,
]
# Enough for each command to work on something small if nothing hostile is in its way.
SMALL: dict[tuple[str, ...], list[str]] = {
    ("train",): [
        "--dataset",
        "photos",
        "--preset",
        "tiny",
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--timesteps",
        "10",
        "--sample-every",
        "0",
        "--quiet",
    ],
    ("sample",): ["--model", "good", "-n", "1", "--steps", "1", "-o", "out/a.png"],
    ("edit", "vary"): ["a.png", "--model", "good", "-n", "1", "--steps", "2", "-o", "out/a.png"],
    ("edit", "inpaint"): ["a.png", "--model", "good", "-n", "1", "--steps", "2", "--rounds", "1", "-o", "out/a.png"],
    ("edit", "interpolate"): ["--model", "good", "--frames", "3", "--steps", "2", "-o", "out/a.png"],
    ("edit", "morph"): [
        "--model",
        "good",
        "--label",
        "0,1",
        "--frames",
        "3",
        "-n",
        "1",
        "--steps",
        "2",
        "-o",
        "out/a.png",
    ],
    ("noise",): ["a.png", "--timesteps", "20", "--at", "0,5", "-o", "out/a.png"],
    ("eval",): ["a.npz", "--reference", "photos", "--metrics", "ssim"],
    ("schedule", "show"): ["--timesteps", "5"],
    ("schedule", "plot"): ["--timesteps", "5", "-o", "out/a.png"],
    ("schedule", "compare"): ["--timesteps", "5", "-o", "out/a.csv"],
    ("models", "show"): ["good"],
    ("models", "path"): ["good"],
    ("models", "list"): [],
    ("data", "list"): [],
    ("data", "path"): ["mnist"],
}


def options_of(words: tuple[str, ...]) -> list[Any]:
    """The options of a command that take a value, but for those whose valid values make work that takes long."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    slow = {"minutes", "eval_every", "device", "compiling", "help"}
    return [each for each in command.params if each.param_type_name == "option" and each.name not in slow]


WRITTEN = {"output", "trajectory", "animate", "plot"}
OPTIONS = {words: options_of(words) for words in SMALL}


class Case:
    """A case: what is put in place, and the command that is run.

    Args:
        root: the folder of the test; `here` in it is the current folder, `home` the data directory.
        good: a model file.
        seed: of the cases.
        number: of this case.
    """

    def __init__(self, root: Path, good: Path, seed: int, number: int) -> None:
        self.root, self.good, self.draw = root, good, Random(f"hostile {seed} {number}")
        self.here, self.home = root / "here", root / "home"
        kind = self.draw.choice(
            [self.line, self.line, self.line, self.settings, self.header, self.text, self.file, self.name]
        )
        words, place = kind()
        self.words = [word.replace("\0", "") for word in words]  # which no argument can hold
        what = f"HOSTILE={seed}:{number} {kind.__name__} {[word[:200] for word in self.words]}"
        self.mutant = Mutant(what, lambda: (self.clean(), place()), ddpm(*self.words))

    def clean(self) -> None:
        """The folders as every case finds them."""
        for path in (*self.here.iterdir(), *(self.home / "models").iterdir(), *(self.home / "runs").iterdir()):
            if path.name != "photos":
                clear(path)
        clear(self.home / "config.toml")
        (self.here / "out").mkdir()
        shutil.copyfile(self.good, self.home / "models" / "good.safetensors")
        pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
        (self.here / "a.png").write_bytes(png(pixels[0], {}))
        np.savez(self.here / "a.npz", images=pixels[:, 0])

    def command(self) -> tuple[tuple[str, ...], list[str]]:
        words = self.draw.choice(sorted(SMALL))
        return words, [*words, *SMALL[words]]

    def line(self) -> tuple[list[str], Callable[[], object]]:
        """A command line with odd values, options and arguments."""
        words, line = self.command()
        for _ in range(self.draw.choice([1, 1, 2, 3])):
            option = self.draw.choice(OPTIONS[words])
            is_number = option.type_descriptor.annotation in (int, float)
            value = self.draw.choice(NUMBERS if is_number and self.draw.random() < 0.8 else WORDS)
            if option.name in WRITTEN and value.startswith(("/", "..", "~", "\\")):
                continue  # such a file may be written, and it would lie outside the test's folder
            name = self.draw.choice(option.opts)
            line += [name] if option.is_flag else [f"{name}={value}"] if name.startswith("--") else [name, value]
        if self.draw.random() < 0.2:
            line.insert(self.draw.randrange(1, len(line) + 1), self.draw.choice(WORDS))
        return line, lambda: None

    def settings(self) -> tuple[list[str], Callable[[], object]]:
        """A settings file: damaged, or with a hostile value or key."""
        words, line = self.command()
        standard = self.draw.random() < 0.5
        path = self.home / "config.toml" if standard else self.here / "a.toml"
        if self.draw.random() < 0.3:
            ((_, content),) = settings_mutants(1, self.draw.randrange(10**6))
        else:
            option = self.draw.choice(OPTIONS[words])
            key = self.draw.choice(
                [max(option.opts, key=len).lstrip("-"), *(json.dumps(each) for each in CONTROLS), "a.b"]
            )
            odd = self.draw.choice(
                [*(each for each in NUMBERS if each.strip()), *map(json.dumps, WORDS), "[1]", "true"]
            )
            content = f"[{'.'.join(words)}]\n{key} = {odd}\n".encode("utf-8", "surrogatepass")
        if not standard:
            line += ["--config", "a.toml"]
        return line, lambda: path.write_bytes(content)

    def header(self) -> tuple[list[str], Callable[[], object]]:
        """A model whose header is damaged, lies, or holds hostile text or numbers."""
        path = self.home / "models" / "odd.safetensors"
        if self.draw.random() < 0.5:
            ((_, content),) = model_mutants(self.good.read_bytes(), 1, self.draw.randrange(10**6))
        else:
            header, about, body = mutation.take_apart(self.good.read_bytes())
            part = self.draw.choice([about, about["data"], about["training"], about["sampler"], about["schedule"]])
            part[self.draw.choice(sorted(part))] = self.draw.choice(
                [*CONTROLS, 2**63, 10**9, -1, 1.5, None, [], {}, ["\x1b[31m", "b"], {"\x1b[31m": "\r"}, "x" * 10_000]
            )
            content = forged(header, about, body)
        line = self.draw.choice(
            [
                ["models", "list"],
                ["models", "show", "odd"],
                ["models", "path", "odd"],
                [*["sample", "--model", "odd", "-n", "1", "--steps", "1", "-o", "out/a.png"]],
                [*["eval", "odd", "--reference", "photos", "--metrics", "ssim", "-n", "2", "--steps", "1"]],
                [*["noise", "--view", "estimates", "--model", "odd", "--at", "0,5", "-o", "out/a.png", "a.png"]],
            ]
        )
        return [*line, *(["--json"] if self.draw.random() < 0.3 else [])], lambda: path.write_bytes(content)

    def text(self) -> tuple[list[str], Callable[[], object]]:
        """A picture whose text describes hostile sampling."""
        _, about, _ = mutation.take_apart(self.good.read_bytes())
        honest = {"software": "ddpm-cli 1.0", "model": about["id"], "weights": "ema", "sampler": "ddim", "steps": "2"}
        honest |= {
            "spacing": "uniform",
            "clip": "true",
            "guidance": "1",
            "precision": "float32",
            "seed": "0",
            "index": "0",
        }
        for _ in range(self.draw.choice([1, 1, 2])):
            key = self.draw.choice(
                [*honest, "label", "rescale", "interval", "threshold", "eta", "guide", "edit", "columns"]
            )
            honest[key] = self.draw.choice(["0-999999999999", "1000000000", *WORDS])
        text = {
            key: value.encode("utf-8", "replace").decode().replace("\0", "")[:50_000] for key, value in honest.items()
        }
        content = png(np.zeros((1, 8, 8), np.uint8), text)
        return ["sample", "--like", "b.png", "-o", "out/a.png"], lambda: (self.here / "b.png").write_bytes(content)

    def file(self) -> tuple[list[str], Callable[[], object]]:
        """A file of another kind, or an archive that lies, where a command reads one."""
        line, name = self.draw.choice(
            [
                (["sample", "--model", "./b.safetensors", "-n", "1", "-o", "out/a.png"], "b.safetensors"),
                (["models", "show", "./b.safetensors", "--json"], "b.safetensors"),
                (["eval", "b.npz", "--reference", "photos", "--metrics", "ssim"], "b.npz"),
                (["noise", "b.npz", "-o", "out/a.png"], "b.npz"),
                (["noise", "b.png", "-o", "out/a.png"], "b.png"),
                (
                    ["edit", "inpaint", "a.png", "--mask", "b.png", "--model", "good", "-n", "1", "-o", "out/a.png"],
                    "b.png",
                ),
                (["schedule", "show", "--from-file", "b.csv"], "b.csv"),
                (["schedule", "list", "--config", "b.toml"], "b.toml"),
                (["sample", "--like", "b.png", "-o", "out/a.png"], "b.png"),
                (["train", "--resume", "b", "--quiet"], "b/config.json"),
                (["train", "--dataset", "b", "--preset", "tiny", "--steps", "1", "--dry-run", "--quiet"], "b/c/d.png"),
            ]
        )
        path = self.here / name
        content = self.draw.choice(KINDS)
        if name == "b.npz" and self.draw.random() < 0.5:
            ((_, content),) = npz_mutants(1, self.draw.randrange(10**6))
        return line, lambda: (path.parent.mkdir(parents=True, exist_ok=True), path.write_bytes(content))

    def name(self) -> tuple[list[str], Callable[[], object]]:
        """A file or folder with a hostile name, found by itself or named."""
        odd = "".join(
            self.draw.choices([*CONTROLS[:-1], "a", "\udcff", "$\\frac$", ":smile:", "[red]", "%s", "\u4e2d"], k=3)
        )
        odd = odd.replace("/", "").lstrip(".-") or "a"
        line, path = self.draw.choice(
            [
                (["models", "list"], self.home / "models" / f"{odd}.safetensors"),
                (["models", "show", odd], self.home / "models" / f"{odd}.safetensors"),
                (["models", "rm", "--yes", odd], self.home / "models" / f"{odd}.safetensors"),
                (
                    [*["sample", "-n", "1", "--steps", "1", "-o", "out/a.png", "--model"], odd],
                    self.home / "models" / f"{odd}.safetensors",
                ),
                ([*["sample", "-n", "1", "--steps", "1", "--model", "good", "-o"], f"out/{odd}.png"], self.here / "b"),
                (["noise", f"{odd}.png", "-o", "out/a.png"], self.here / f"{odd}.png"),
                (["eval", f"./{odd}.npz", "--reference", "photos", "--metrics", "ssim"], self.here / f"{odd}.npz"),
                (["schedule", "show", "--from-file", f"{odd}.csv"], self.here / f"{odd}.csv"),
                (
                    [*["train", "--preset", "tiny", "--steps", "1", "--dry-run", "--dataset"], f"./{odd}"],
                    self.here / odd / odd / "a.png",
                ),
                (
                    [*["train", "--dataset", "photos", "--preset", "tiny", "--steps", "1", "--dry-run", "--name"], odd],
                    self.here / "b",
                ),
            ]
        )

        def place() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            source = {".safetensors": self.good, ".npz": self.here / "a.npz"}.get(path.suffix, self.here / "a.png")
            shutil.copyfile(source, path)

        return line, place


@tried(60, 500)
def test_no_hostile_input_ends_in_a_traceback_a_hang_or_on_the_terminal(
    good: Path, trained: Path, home: Path, figure: Figure, seed: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_draw_samples", "_draw_loss"):  # pictures of a training take seconds
        monkeypatch.setattr(f"ddpm_cli.runs.Run.{name}", lambda *_: None)
    root = home.parent
    shutil.copytree(trained / "photos", root / "here" / "photos")
    if ONE and not ONE.startswith(f"{seed}:"):
        pytest.skip(f"HOSTILE={ONE} names a case of another seed")
    chosen = [int(ONE.partition(":")[2])] if ONE else range(count)
    mutants = [Case(root, good, seed, number).mutant for number in chosen]
    outcomes = survive(mutants, root, except_("home/", "here/"))
    claim(outcomes, {0, 2, 3, 4, 5, 6}, "hostile input of all kinds", figure)
