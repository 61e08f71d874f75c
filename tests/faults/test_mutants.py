"""Whatever the bytes of a file are, ddpm reads it or refuses it: quickly, in little memory, in one sentence.

The mutants are those of ``tests/mutation.py``, and ``tests/survival.py`` runs them. The fast part is a sample of the
slow one, with a seed of its own.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import mutation
from survival import Figure, Mutant, api, claim, ddpm, survive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits on memory as Linux has them")


def tried(fast: int, slow: int) -> pytest.MarkDecorator:
    """So many mutants of one seed, and with the slow tests so many of another."""
    slowly = [pytest.mark.slow, pytest.mark.timeout(1200)]
    return pytest.mark.parametrize(("seed", "count"), [(0, fast), pytest.param(1, slow, marks=slowly)])


# --- what is mutated ------------------------------------------------------------------------------------------------


def except_(*names: str) -> Callable[[str], bool]:
    """Spares these files and what is below them, and the cache."""
    return lambda name: name.startswith(("home/cache", *names))


def write(path: Path, content: bytes) -> Callable[[], object]:
    return lambda: (clear(path), path.write_bytes(content))


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def oddly(path: Path, seed: int) -> dict[str, Callable[[], object]]:
    """What stands in the place of a file and is no file with something in it; for seed 0, the worst of it."""

    def huge() -> None:
        with path.open("wb") as file:
            file.truncate(2**40)

    kinds: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "empty": lambda: path.write_bytes(b""),
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "a link to nowhere": lambda: path.symlink_to("nowhere"),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a link to /dev/zero": lambda: path.symlink_to("/dev/zero"),
        "a link to /dev/null": lambda: path.symlink_to("/dev/null"),
        "a terabyte": huge,
    }
    chosen = kinds if seed else ["a pipe", "a link to nowhere", "a link to /dev/zero"]
    return {what: lambda make=kinds[what]: (clear(path), make()) for what in chosen}


def identity(header: dict[str, Any], about: dict[str, Any], body: bytes) -> str:
    """The model id as docs/checkpoint-format.md tells it, without torch."""
    architecture = {key: about[key] for key in ("kind", "network", "schedule", "target")}
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    kinds = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}
    for name, entry in sorted(header.items()):
        array = np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        digest.update(f"{name} torch.{array.dtype.name} {list(array.shape)}\n".encode() + array.tobytes())
    return digest.hexdigest()


# --- models ---------------------------------------------------------------------------------------------------------


def model_mutants(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutants of a model file: damage anywhere, and lies told with the id that belongs to them."""
    header, about, body = mutation.take_apart(content)
    start = len(content) - len(body)
    for number in range(count):
        draw = Random(f"model {seed} {number}")
        kind = draw.choice(["damage", "header damage", "body damage", "entry", "entries", "description", "network"])
        if kind == "damage":
            mutant = mutation.damaged(content, draw)
        elif kind == "header damage":
            mutant = mutation.damaged(content[:start], draw) + body
        elif kind == "body damage":
            mutant = content[:start] + mutation.damaged(body, draw)
        elif kind == "entry":
            mutant = forged(mutation.entry(header, body, draw), about, body)
        elif kind == "entries":
            lie = mutation.document(header, draw)
            mutant = mutation.put_together(lie, json.dumps(about).encode(), body)
        elif kind == "description":
            part = {key: about[key] for key in draw.sample(sorted(about), 3)}  # else most oddities meet the betas
            lie = mutation.document(part, draw)
            rest = json.dumps({key: value for key, value in about.items() if key not in part}).encode()
            whole = rest[:-1] + b", " + lie.lstrip(b"{") if lie.startswith(b"{") else lie
            mutant = forged(header, whole, body)
        else:
            network = {
                **about["network"],
                **{key: draw.choice(ENORMOUS[key]) for key in draw.sample(sorted(ENORMOUS), 2)},
            }
            mutant = forged(header, {**about, "network": network}, body)
        yield f"{kind} {number}", mutant


# What a network may be, and what is far beyond it.
ENORMOUS: dict[str, list[Any]] = {
    "shape": [[1, 4096, 4096], [4096, 4096, 4096], [10**9, 1, 1], [1, 8, 2**63]],
    "classes": [2**31, 10**30, 10**6],
    "widths": [[8192], [8192] * 8, [8] * 100_000, [10**12], [2**64]],
    "blocks": [64, 10**9, 2**63],
    "attention": [[0] * 100_000, list(range(8))],
    "heads": [10**30, 2**31],
    "patch": [64, 10**9],
}


def forged(header: dict[str, Any], about: dict[str, Any] | bytes, body: bytes) -> bytes:
    """A file with the id that belongs to the lie, where it still has one, so that the id alone does not tell."""
    if isinstance(about, dict):
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError, MemoryError):
            about = {**about, "id": identity(header, about, body)}
        about = json.dumps(about).encode()
    else:
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError, MemoryError, RecursionError):
            honest = identity(header, json.loads(about), body).encode()
            about = re.sub(rb'("id": )"[0-9a-f]{64}"', rb'\1"' + honest + b'"', about)
    return mutation.put_together(json.dumps(header).encode(), about, body)


def load(path: Path) -> None:
    """Load a model and compare it with its file, read in the way of another program."""
    import torch
    from safetensors import safe_open

    from ddpm_cli import checkpoint, networks

    model, info = checkpoint.load(path)
    header, about, body = mutation.take_apart(path.read_bytes())
    assert info.id == about["id"] == identity(header, about, body)
    with torch.device("meta"):
        declared = networks.build(info.network).state_dict()
    shapes = {f"{kind}.{name}": list(value.shape) for kind in info.weights for name, value in declared.items()}
    with safe_open(path, "numpy") as file:
        assert {name: file.get_slice(name).get_shape() for name in file.keys()} == shapes  # noqa: SIM118  # no mapping
        for name, value in model.denoiser.network.state_dict().items():
            assert value.numpy().tobytes() == file.get_tensor(f"{info.weights[0]}.{name}").tobytes()


@tried(100, 1200)
def test_a_model_is_what_its_file_declares_or_is_refused(
    good: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    beside, path = home / "models" / "good.safetensors", home / "models" / "mutant.safetensors"
    shutil.copyfile(good, beside)
    content = good.read_bytes()
    mutants = [
        Mutant(what, write(path, mutant), api(lambda: load(path)))
        for what, mutant in model_mutants(content, count, seed)
    ]
    mutants += [Mutant(what, put, api(lambda: load(path))) for what, put in oddly(path, seed).items()]
    outcomes = survive(mutants, home.parent, except_("home/models/mutant"))
    claim(outcomes, {0, 4}, "model files", figure)
    for outcome in outcomes:  # a change in the body is always noticed: the id covers it
        assert not outcome.what.startswith("body damage") or outcome.code == 4, outcome


@tried(12, 300)
def test_a_model_is_shown_listed_and_sampled_or_refused(
    good: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    path = home / "models" / "mutant.safetensors"
    shutil.copyfile(good, home / "models" / "good.safetensors")
    sample = ("sample", "--model", "mutant", "-n", 1, "--steps", 1, "-o", "picture.npz", "--json")
    commands = [
        ("models", "show", "mutant", "--json"),
        ("models", "list", "--json"),
        ("models", "show", "mutant"),
        sample,
    ]
    mutants = [
        Mutant(f"{what} {words[:2]}", write(path, mutant), ddpm(*words))
        for number, (what, mutant) in enumerate(model_mutants(good.read_bytes(), count, seed + 10))
        for words in [commands[number % len(commands)]]
        if "4096" not in str(mutant[:5000]) or words is not sample  # such an image is large, and no lie
    ]
    mutants += [Mutant(what, put, ddpm("models", "list", "--json")) for what, put in oddly(path, seed).items()]
    outcomes = survive(mutants, home.parent, except_("home/models/mutant", "here/picture.npz"))
    claim(outcomes, {0, 2, 4, 5}, "model files under the command line", figure)
    for outcome in outcomes:
        if outcome.code == 0 and "list" in outcome.what:
            assert "good" in {model["name"] for model in strict(outcome.out)["models"]}
        elif outcome.code == 0 and outcome.out.startswith("{"):
            strict(outcome.out)


def strict(text: str) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return document


@pytest.mark.parametrize(
    "value", [np.nan, pytest.param(-np.inf, marks=pytest.mark.slow), pytest.param(3e38, marks=pytest.mark.slow)]
)
def test_weights_that_draw_no_image_are_told(good: Path, home: Path, value: float, figure: Figure) -> None:
    header, about, body = mutation.take_apart(good.read_bytes())
    path, mutants = home / "models" / "mutant.safetensors", []
    sample = ddpm("sample", "--model", "mutant", "-n", 1, "--steps", 2, "-o", "picture.png")
    for name in sorted(header)[::7]:
        first, last = header[name]["data_offsets"]
        mutant = bytearray(body)
        mutant[first:last] = np.full((last - first) // 4, value, "<f4").tobytes()
        mutants.append(Mutant(name, write(path, forged(header, about, bytes(mutant))), sample))
    outcomes = survive(mutants, home.parent, except_("home/models/mutant", "here/picture.png"))
    claim(outcomes, {0, 4, 5}, f"weights of {value}", figure)
    for outcome in outcomes:
        assert value == 3e38 or outcome.what.startswith("raw.") or outcome.code in (4, 5), outcome


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run of four steps, which has its end before it; and a whole one beside it."""
    for name in ("run", "other"):
        shutil.copytree(trained / "home" / "runs" / "run", home / "runs" / name)
    shutil.copytree(trained / "home" / "cache", home / "cache", dirs_exist_ok=True)
    for name in ("_draw_samples", "_draw_loss"):
        monkeypatch.setattr(f"ddpm_cli.runs.Run.{name}", lambda *_: None)
    return home / "runs" / "run"


def anew(run: Path, trained: Path) -> None:
    """The run as it was."""
    clear(run)
    shutil.copytree(trained / "home" / "runs" / "run", run)


def state_mutants(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutants of a state: damage anywhere, and lies told with the digest that belongs to them, or with none."""
    header, about, body = mutation.take_apart(content)
    start = len(content) - len(body)
    for number in range(count):
        draw = Random(f"state {seed} {number}")
        kind = draw.choice(["damage", "header damage", "body damage", "entry", "position", "run", "model"])
        if kind == "damage":
            mutant = mutation.damaged(content, draw)
        elif kind == "header damage":
            mutant = mutation.damaged(content[:start], draw) + body
        elif kind == "body damage":
            mutant = content[:start] + mutation.damaged(body, draw)
        else:
            honest = {key: value for key, value in about.items() if key != "digest"}
            lied = mutation.entry(header, body, draw) if kind == "entry" else header
            parts = {"run": ["run"], "model": ["model"]}.get(kind, sorted(honest.keys() - {"run", "model"}))
            if kind == "entry":
                whole = json.dumps(honest).encode()
            else:
                lie = mutation.document({key: honest[key] for key in parts}, draw)
                rest = json.dumps({key: value for key, value in honest.items() if key not in parts}).encode()
                whole = rest[:-1] + b", " + lie[1:] if lie.startswith(b"{") else lie
            mutant = mutation.put_together(json.dumps(lied).encode(), whole, body)
        yield f"{kind} {number}", mutant


@tried(30, 700)
def test_a_state_is_taken_up_whole_or_refused(
    run: Path, trained: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    """Restored by the code that ``--resume`` calls; what is taken up is what was saved."""
    import torch
    from safetensors.numpy import load_file

    from ddpm_cli import runs

    content = (run / "state.safetensors").read_bytes()
    saved = load_file(run / "state.safetensors")

    def mutants() -> Iterator[Mutant]:
        resumed = runs.Run(run, runs.load_config(run), torch.device("cpu"), offline=True)
        resumed.prepare()

        def restore() -> None:
            resumed.restore()
            for name, value in resumed.state.denoiser.network.state_dict().items():
                assert value.numpy().tobytes() == saved[f"raw.{name}"].tobytes()

        for what, mutant in state_mutants(content, count, seed):
            yield Mutant(what, lambda mutant=mutant: place(mutant), api(restore))
        for what, put in oddly(run / "state.safetensors", seed).items():
            if what != "nothing":  # the run has not saved yet
                yield Mutant(what, put, api(restore))

    def place(mutant: bytes) -> None:
        anew(run, trained)
        (run / "state.safetensors").write_bytes(mutant)

    outcomes = survive(mutants(), home.parent, except_("home/runs/run"))
    claim(outcomes, {0, 2, 4}, "states", figure)
    for outcome in outcomes:
        assert not outcome.what.startswith("body damage") or outcome.code == 4, outcome


@tried(2, 60)
def test_a_run_with_a_mutant_for_its_state_goes_on_or_stays_as_it_is(
    run: Path, trained: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    resume = ddpm("train", "--resume", "run", "--steps", "5", "--quiet")
    mutants = [
        Mutant(
            what, lambda mutant=mutant: (anew(run, trained), (run / "state.safetensors").write_bytes(mutant)), resume
        )
        for what, mutant in state_mutants((run / "state.safetensors").read_bytes(), count, seed + 10)
    ]
    outcomes = survive(mutants, home.parent, except_("none"))
    for number, outcome in enumerate(outcomes):
        if outcome.code == 0:
            outcomes[number] = outcome._replace(changed=[name for name in outcome.changed if not below(name, "run")])
    claim(outcomes, {0, 2, 4}, "states under ddpm train --resume", figure)


def below(name: str, run: str) -> bool:
    return name == f"home/runs/{run}" or name.startswith(f"home/runs/{run}/")


@tried(4, 250)
def test_a_mutant_for_the_config_of_a_run_keeps_no_other_run_from_going_on(
    run: Path, trained: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    path, content = run / "config.json", json.loads((run / "config.json").read_bytes())
    commands = [
        ("train", "--resume", "run", "--quiet", "--steps", "4"),
        ("train", "--resume", "latest", "--quiet", "--dry-run"),
        ("models", "list", "--json"),
        ("sample", "-n", "1", "--steps", "1", "-o", "picture.npz", "--quiet"),
        ("models", "show", "run", "--json"),
    ]

    def put(mutant: bytes) -> None:
        anew(run, trained)
        path.write_bytes(mutant)
        os.utime(home / "runs" / "other" / "config.json", (1e9, 1e9))

    def odd(make: Callable[[], object]) -> None:
        anew(run, trained)
        make()
        os.utime(home / "runs" / "other" / "config.json", (1e9, 1e9))

    mutants = []
    for number in range(count):
        draw = Random(f"config {seed} {number}")
        kind = draw.choice(["document", "document", "damage"])
        text = json.dumps(content, indent=2).encode()
        mutant = mutation.document(content, draw) if kind == "document" else mutation.damaged(text, draw)
        words = commands[number % len(commands)]
        mutants.append(Mutant(f"{kind} {number} {words}", lambda mutant=mutant: put(mutant), ddpm(*words)))
    for what, make in oddly(path, seed).items():
        tried_with = commands[1:2] if seed == 0 else commands
        mutants += [Mutant(f"{what} {words}", lambda make=make: odd(make), ddpm(*words)) for words in tried_with]
    outcomes = survive(mutants, home.parent, except_("home/runs", "here/picture.npz"))
    claim(outcomes, {0, 2, 3, 4, 6}, "configs of runs", figure)
    for outcome in outcomes:
        if "'latest'" in outcome.what:  # a config that can be read may still be another than its state has
            assert outcome.code != 4 or "contradicts the saved state" in outcome.err, outcome
            assert outcome.code or outcome.out.strip().endswith(("runs/run", "runs/other")), outcome
        elif "'train'" not in outcome.what:
            assert outcome.code == 0, outcome


@tried(10, 200)
def test_metrics_are_read_as_far_as_they_are_metrics(
    run: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    import torch

    from ddpm_cli import runs

    path = run / "metrics.jsonl"
    line = json.loads(path.read_text().splitlines()[0])

    def text(draw: Random) -> bytes:
        rows = [json.dumps({**line, "step": step}).encode() for step in (1, 2, 3, 4)]
        kind = draw.choice(["document", "document", "document", "damage", "shuffled", "huge line", "many"])
        place = draw.randrange(4)
        if kind == "document":
            rows[place] = mutation.document(line, draw)
        elif kind == "shuffled":
            draw.shuffle(rows)
        elif kind == "huge line":
            rows[place] = draw.choice([b"x", b"\0", b"[", b'{"a":', b"\xff", b" "]) * 5_000_000
        elif kind == "many":
            rows = rows * 5000
        whole = b"\n".join(rows) + b"\n"
        return mutation.damaged(whole, draw) if kind == "damage" else whole

    def mutants() -> Iterator[Mutant]:
        resumed = runs.Run(run, runs.load_config(run), torch.device("cpu"), offline=True)
        resumed.prepare()

        def restore() -> None:
            resumed.restore()
            kept = [json.loads(row) for row in path.read_text().splitlines()]
            steps = [row["step"] for row in kept]
            assert all(type(step) is int for step in steps)
            assert steps == sorted(set(steps))
            assert not steps or steps[-1] <= 4

        for number in range(count):
            draw = Random(f"metrics {seed} {number}")
            content = text(draw)
            yield Mutant(f"{number}: {content[:60]!r}", write(path, content), api(restore))
        for what, put in oddly(path, seed).items():
            yield Mutant(what, put, api(restore))

    outcomes = survive(mutants(), home.parent, except_("home/runs/run"))
    claim(outcomes, {0, 6}, "metrics", figure)


# --- settings, betas, images, caches --------------------------------------------------------------------------------

SETTINGS = """\
[train]
lr = 0.001
steps = 5
preset = "tiny"
save-every = 2.5

[sample]
number = 2
model = "good"
output = "picture.npz"
sampler = "ddim"
guidance = 1.0

[schedule.show]
timesteps = 3
kind = "linear"
beta-start = 0.1
"""
TOML = [
    *("nan", "-inf", "1e400", "9" * 400, "-1", "0", "true", "[]", "{}", '""', "''", '"\\u0000"', '"a\\nb"', '"../x"'),
    *(
        "1979-05-27",
        "07:32:00",
        "[" * 90_000,
        "{a=" * 900,
        "[" * 400 + "]" * 400,
        "[1, 2]",
        '["a"]',
        "{ a = 1 }",
        "0x7f",
    ),
    *('"' + "x" * 100_000 + '"', "", "#", "\x00", '"\\ud800"', '"/dev/zero"', '"-"', "1_000", "3.0"),
]


def settings_mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutants of a file of settings: its bytes, a value, a key, a table, a line too many."""
    rows = SETTINGS.splitlines()
    for number in range(count):
        draw = Random(f"settings {seed} {number}")
        kind = draw.choice(["damage", "value", "value", "value", "key", "table", "line"])
        mutant, values = list(rows), [place for place, row in enumerate(rows) if "=" in row]
        place = draw.choice(values)
        key, _, value = mutant[place].partition(" = ")
        if kind == "value":
            mutant[place] = f"{key} = {draw.choice(TOML)}"
        elif kind == "key":
            odd = draw.choice(
                ["config", "help", "json", "a.b", '""', '"\\u0000"', "a" * 9999, "ä", '"ä"', "quiet", "-"]
            )
            mutant[place] = f"{odd} = {value}"
        elif kind == "table":
            odd = draw.choice(
                ["[x]", "[[train]]", "[train.train]", "[sample]", "[schedule]", "[" + ".".join("a" * 900) + "]"]
            )
            mutant.insert(place, odd)
        elif kind == "line":
            mutant.insert(place, draw.choice(["\x00", "=", "a", "[", "]]", "\ufeff", *rows]))
        text = "\n".join(mutant).encode("utf-8", "surrogatepass")
        yield f"{kind} {number}", mutation.damaged(text, draw) if kind == "damage" else text


@tried(30, 400)
def test_settings_are_understood_or_refused(good: Path, home: Path, figure: Figure, seed: int, count: int) -> None:
    shutil.copyfile(good, home / "models" / "good.safetensors")
    standard, named = home / "config.toml", home.parent / "here" / "named.toml"
    commands: list[tuple[str, ...]] = [("schedule", "show"), ("models", "list"), ("sample", "--steps", "1")]
    mutants = []
    for number, (what, mutant) in enumerate(settings_mutants(count, seed)):
        draw = Random(f"settings place {seed} {number}")
        path, words = draw.choice([standard, named]), draw.choice(commands)
        words = (*words, "--config", str(named)) if path == named else words
        put = lambda path=path, mutant=mutant: (clear(standard), clear(named), path.write_bytes(mutant))  # noqa: E731
        mutants.append(Mutant(f"{what} {words}", put, ddpm(*words)))
    for what, put in oddly(standard, seed).items():
        mutants.append(Mutant(what, put, ddpm("schedule", "list")))
    # What a file of settings names as the result may be written: the current folder, and its neighbours.
    outcomes = survive(mutants, home.parent, except_("home/config.toml", "here/", "x"))
    claim(outcomes, {0, 2, 3, 4, 6}, "settings", figure)


def betas_mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutants of files of betas: JSON, CSV, a number a line; and what is much too large."""
    numbers = [0.1, 0.2, 0.5]
    table = "t,beta,abar\n0,0,1\n1,0.1,0.9\n2,0.2,0.7\n3,0.5,0.3\n"
    for number in range(count):
        draw = Random(f"betas {seed} {number}")
        kind = draw.choice(["json", "list", "csv", "cell", "lines", "damage", "large"])
        if kind == "json":
            mutant = mutation.document({"betas": numbers, "kind": "custom"}, draw)
        elif kind == "list":
            mutant = mutation.document(numbers, draw)
        elif kind in ("csv", "lines"):
            odd = draw.choice(
                ['"', "nan", "inf", "1e400", "9" * 400, "x" * 200_000, "\x00", ",", "", "\r", "0x1", "\u0661"]
            )
            mutant = (
                (table if kind == "csv" else "0.1\n0.2\n0.5\n")
                .replace(draw.choice(["0.1", "0.2", "0.5"]), odd)
                .encode()
            )
        elif kind == "cell":
            mutant = table.replace(
                draw.choice(["beta", "t,", "1,", "\n0,", "\n"]), draw.choice(["", "x", '"', "\t", "beta"])
            ).encode()
        elif kind == "damage":
            mutant = mutation.damaged(draw.choice([table, json.dumps(numbers)]).encode(), draw)
        else:
            mutant = draw.choice(
                [
                    b"0.1\n" * 3_000_000,
                    b"[" + b"0.1," * 9_000_000 + b"0.1]",
                    b"[" + b"{}," * 9_000_000 + b"{}]",
                    b"1" * 40_000_000,
                ]
            )
        yield f"{kind} {number}", mutant


@tried(16, 300)
def test_betas_are_a_schedule_or_refused(home: Path, figure: Figure, seed: int, count: int) -> None:
    path = home.parent / "here" / "betas"
    show = ddpm("schedule", "show", "--from-file", "betas", "--json")
    mutants = [Mutant(what, write(path, mutant), show) for what, mutant in betas_mutants(count, seed)]
    mutants += [
        Mutant(what, put, show) for what, put in oddly(path, seed).items() if what != "a pipe"
    ]  # one may be named
    outcomes = survive(mutants, home.parent, except_("here/betas"))
    claim(outcomes, {0, 2, 3}, "betas", figure)
    for outcome in outcomes:
        if outcome.code == 0:
            assert '"kind":"custom"' in outcome.out


def npz_mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutants of an archive of images: its bytes, and headers of arrays that lie, packed as they should be."""
    import zipfile

    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)

    def packed(
        head: bytes, body: bytes, name: str = "images.npy", copies: int = 1, method: int = zipfile.ZIP_DEFLATED
    ) -> bytes:
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", method) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two of one name
            for _ in range(copies):
                archive.writestr(name, b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body)
        return whole.getvalue()

    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 8, 8), }\n"
    for number in range(count):
        draw = Random(f"npz {seed} {number}")
        kind = draw.choice(["damage", "damage", "header", "shape", "dtype", "body", "archive"])
        lie, body = head, images.tobytes()
        if kind == "header":
            lie = mutation.damaged(head, draw)
        elif kind == "shape":
            odd = [
                b"9" * 70,
                b"4, 8, 8, 8",
                b"0, 8, 8",
                b"4, 0, 8",
                b"-4, 8, 8",
                b"256,",
                b"",
                b"99999, 99999, 9999",
                b"4, 8, 2, 4",
            ]
            lie = head.replace(b"4, 8, 8", draw.choice(odd))
        elif kind == "dtype":
            lie = head.replace(
                b"|u1", draw.choice([b"|O", b"<f8", b"<i8", b"|S9", b"<U9", b"|V8", b"[('a', '|u1')]", b"|b1"])
            )
        elif kind == "body":
            body = mutation.damaged(body, draw)
        copies, name = (
            (draw.choice([1, 2]), draw.choice(["images.npy", "../images.npy", "labels.npy"]))
            if kind == "archive"
            else (1, "images.npy")
        )
        method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        whole = packed(lie, body, name, copies, method)
        yield f"{kind} {number}", mutation.damaged(whole, draw) if kind == "damage" else whole


@tried(24, 300)
def test_archives_of_images_are_judged_or_refused(
    trained: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    path = home.parent / "here" / "mutant.npz"
    judge = ddpm("eval", "mutant.npz", "--reference", trained / "photos", "--metrics", "ssim", "--json", "--seed", 0)
    mutants = [Mutant(what, write(path, mutant), judge) for what, mutant in npz_mutants(count, seed)]
    mutants += [
        Mutant(what, put, judge) for what, put in oddly(path, seed).items() if what != "a pipe"
    ]  # one may be named
    outcomes = survive(mutants, home.parent, except_("here/mutant.npz"))
    claim(outcomes, {0, 2, 3}, "archives of images", figure)


@tried(24, 300)
def test_what_is_remembered_is_no_reason_to_fail(
    good: Path, home: Path, monkeypatch: pytest.MonkeyPatch, figure: Figure, seed: int, count: int
) -> None:
    """Evaluations and measurements in the cache, and the record beside a shipped model: read, or as if not there."""
    from ddpm_cli import evaluation, machine, paths

    shipped = home.parent / "package" / "weights" / "mnist.safetensors"
    shipped.parent.mkdir(parents=True)
    for path in (shipped, home / "models" / "good.safetensors"):
        shutil.copyfile(good, path)
    monkeypatch.setattr(paths, "shipped", lambda: shipped.parents[1])
    known = f"convolution {machine.processor()} torch"
    model = mutation.take_apart(good.read_bytes())[1]["id"]
    found = evaluation.Evaluation(
        {"ssim": {"mean": 0.5}}, {"number": 9, "reference": {"data": "pets", "split": "test"}}, model
    )
    protocol = {"number": 64, "reference": {"data": "pets", "split": "test"}}
    kept = {"metrics": {"ssim": {"mean": 0.2, "std": 0.1, "real": {"mean": 0.3}}}, "protocol": {"ssim": protocol}}
    record = {
        "date": "2026-02-03",
        "scores": {"ssim": 0.2, "labels": 0.9},
        "protocol": protocol,
        "versions": {"torch": "2"},
    }
    places: list[tuple[Path, Any, list[Callable[[], int]]]] = [
        (
            home / "cache" / "evaluations" / f"{model}.json",
            kept,
            [ddpm("models", "list", "--json"), ddpm("models", "show", "good", "--json"), ddpm("models", "show", "good"),
             api(lambda: evaluation.remember(found, "pets"))],
        ),
        (
            home / "cache" / "winograd.json",
            {known: True, "other": False},
            [api(lambda: machine.remembered("winograd", known))],
        ),
        (
            shipped.with_suffix(".json"),
            record,
            [*(ddpm("models", "show", "mnist", *more) for more in ((), ("--json",))), ddpm("models", "list", "--json")],
        ),
    ]  # fmt: skip
    mutants = []
    for number in range(count):
        draw = Random(f"cache {seed} {number}")
        path, values, commands = draw.choice(places)
        document = draw.random() < 0.8
        mutant = mutation.document(values, draw) if document else mutation.damaged(json.dumps(values).encode(), draw)
        mutants.append(Mutant(f"{path.name} {number} {mutant[:80]!r}", write(path, mutant), draw.choice(commands)))
    for path, _, commands in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        for what, put in oddly(path, seed).items():
            into = commands if what != "a pipe" else commands[:-1]  # the last writes, and would write into it
            fresh = lambda path=path, put=put: (path.parent.mkdir(exist_ok=True), put())  # noqa: E731
            mutants += [Mutant(f"{path.name} {what}", fresh, command) for command in into]
    outcomes = survive(mutants, home.parent, except_("package/weights/mnist.json"))
    claim(outcomes, {0}, "what is remembered", figure)
    for outcome in outcomes:
        if outcome.out.startswith("{"):
            strict(outcome.out)


# --- names ----------------------------------------------------------------------------------------------------------

PARTS = [
    *(
        "..",
        ".",
        "/",
        "//",
        "\\",
        "-",
        "--",
        "--yes",
        "~",
        "~root",
        "~nobody-here",
        "a",
        "run",
        "good",
        "x" * 300,
        "ä" * 150,
    ),
    *(
        "\0",
        "\n",
        "\r",
        "\t",
        "\x1b[31m",
        "\x7f",
        "\udcff",
        "\ud800",
        "\u202e",
        "\u2028",
        "😀",
        "%s",
        "{0}",
        "$HOME",
        "*",
        "?",
    ),
    *(
        "CON",
        "secret",
        "runs",
        "models",
        "../secret",
        "../../secret",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        " ",
        "",
    ),
    *(
        ".safetensors",
        ".npz",
        "model.safetensors",
        "config.json",
        "latest",
        "mnist",
        "[",
        "]",
        "'",
        '"',
        ";",
        "|",
        "&",
        "#",
    ),
]


def names(count: int, seed: int) -> list[str]:
    """Odd words, and words put together of them."""
    draw = Random(f"names {seed}")
    joined = ["".join(draw.choices(PARTS, k=draw.choice([2, 2, 3, 4]))) for _ in range(count)]
    return [*draw.sample(PARTS, min(count, len(PARTS))), *joined][:count]


@tried(12, 500)
def test_no_name_leads_out_of_the_data_directory(
    good: Path, trained: Path, home: Path, figure: Figure, seed: int, count: int
) -> None:
    for name in ("good", "kept"):
        shutil.copyfile(good, home / "models" / f"{name}.safetensors")
    for name in ("run", "kept-run"):
        shutil.copytree(trained / "home" / "runs" / "run", home / "runs" / name)
    shutil.copytree(trained / "home" / "runs" / "run", home.parent / "run-elsewhere")
    shutil.copyfile(good, home.parent / "here" / "x.safetensors")

    unspeakable = [home / "models" / f"{name}.safetensors" for name in ("good\udcff", "good\nline", "good\x1b[31m")]

    def restored() -> None:
        for path in unspeakable:
            if not path.exists():
                shutil.copyfile(good, path)
        if not (home / "models" / "good.safetensors").exists():
            shutil.copyfile(good, home / "models" / "good.safetensors")
        if not (home / "runs" / "run").exists():
            shutil.copytree(trained / "home" / "runs" / "run", home / "runs" / "run")

    photos = str(trained / "photos")
    train = ("train", "--dataset", photos, "--preset", "tiny", "--steps", "1", "--dry-run", "--quiet")
    commands: list[Callable[[str], tuple[str, ...]]] = [
        lambda name: ("models", "rm", "--yes", "--", name),
        lambda name: ("models", "rm", "--yes", name),
        lambda name: ("models", "path", "--", name),
        lambda name: ("models", "show", "--json", "--", name),
        lambda name: ("sample", "-n", "1", "--steps", "1", "-o", "picture.npz", "--quiet", "--model", name),
        lambda name: ("train", "--resume", name, "--dry-run", "--quiet"),
        lambda name: ("data", "rm", "--yes", "--", name),
        lambda name: ("data", "path", "--", name),
        lambda name: ("eval", "--reference", photos, "--metrics", "ssim", "-n", "1", "--steps", "1", "--", name),
        lambda name: (*train, "--name", name),
    ]
    mutants = []
    for number, name in enumerate(names(count, seed)):
        everyone = number < len(PARTS) and seed
        chosen = [words(name) for words in (commands if everyone else commands[:1] + commands[1 + number % 9 :: 9])]
        mutants += [Mutant(repr(words[:9]), restored, ddpm(*words)) for words in chosen]
    for path in unspeakable:
        chosen = [words(name) for words in commands[2:5] + commands[:1] for name in (path.stem, str(path))]
        mutants += [Mutant(repr(words), restored, ddpm(*words)) for words in chosen]
    mutants += [
        Mutant(repr(words), restored, ddpm(*words)) for words in (("models", "list"), ("models", "list", "--json"))
    ]
    gone = except_("home/models/good", "home/runs/run", "here/picture.npz")
    outcomes = survive(mutants, home.parent, gone)
    claim(outcomes, {0, 2, 3, 4, 6}, "names", figure)
