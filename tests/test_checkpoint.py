"""A model file gives the model it was made of, or a ModelError; nothing in between, whatever its bytes are."""

import contextlib
import hashlib
import json
import math
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mutation
from ddpm_cli import checkpoint
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import NetworkConfig, ReportUNetConfig, SamplerConfig, ScheduleConfig, UNetConfig
from ddpm_cli.errors import ModelError
from ddpm_cli.forward import as_tensors

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parents[1] / "docs" / "checkpoint-format.md"
UNET = UNetConfig((1, 8, 8), classes=2, patch=2, widths=(8,), blocks=1, attention=(), heads=1)
HUGE = 2**1024  # no float holds it
REPORT = ReportUNetConfig((1, 8, 8), classes=2, widths=(2, 2, 4), embedding=2, heads=1)  # has whole numbers in it
INFO = Info(UNET, ScheduleConfig(timesteps=10), "v", ("cat", "dog"), training={"step": 7, "steps": 9, "loss": None})


def weights(network: NetworkConfig = UNET, dtype: torch.dtype = torch.float32, **seeds: int) -> dict[str, torch.Tensor]:
    """Tensors as a run hands them over: ``weights(ema=1, raw=2)``."""
    state = checkpoint.build_denoiser(replace(INFO, network=network)).network.state_dict()
    tensors = {}
    for kind, seed in (seeds or {"ema": 1}).items():
        noise = torch.Generator().manual_seed(seed)
        for name, value in state.items():
            drawn = torch.randn(value.shape, generator=noise).to(dtype)
            tensors[f"{kind}.{name}"] = drawn if value.is_floating_point() else torch.tensor(seed)
    return tensors


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(ema=1, raw=2), INFO)
    return path


# --- files that are replaced while they are read ---


def other(path: Path) -> str:
    """Replaces a model by another of other weights, and of a longer header; returns its id."""
    training = {"step": 8, "steps": 9, "loss": 0.25, "recipe": {"seed": 1}}
    return checkpoint.save(path, weights(ema=3, raw=4), replace(INFO, training=training)).id


def test_a_model_that_is_replaced_while_it_is_loaded_is_the_one_or_the_other(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run that trains saves it; here between the header and the weights."""
    check = checkpoint.check_tensors

    def and_replace(*arguments: Any) -> None:
        check(*arguments)
        other(good)

    before = checkpoint.read_info(good)
    monkeypatch.setattr(checkpoint, "check_tensors", and_replace)
    model, info = checkpoint.load(good)
    assert info == before
    state = model.denoiser.network.state_dict()
    assert all(torch.equal(state[name.removeprefix("ema.")], value) for name, value in weights(ema=1).items())
    monkeypatch.undo()
    assert checkpoint.load(good)[1].training["step"] == 8


def test_so_is_one_that_is_replaced_or_removed_while_its_tensors_are_read(good: Path) -> None:
    with checkpoint.opened(good) as model:
        good.unlink()
        identity = model.about["id"]
        assert checkpoint.model_id(INFO.architecture(), model.tensors()) == identity
    other(good)
    with checkpoint.opened(good) as model:
        checkpoint.save(good, weights(ema=1, raw=2), INFO)
        assert checkpoint.model_id(INFO.architecture(), model.tensors()) == model.about["id"] != identity


def test_loads_while_another_thread_saves_all_the_time_find_no_damage(good: Path) -> None:
    ids, stop = {checkpoint.read_info(good).id}, threading.Event()

    def save() -> None:
        while not stop.is_set():
            ids.add(other(good))
            ids.add(checkpoint.save(good, weights(ema=1, raw=2), INFO).id)

    saving = threading.Thread(target=save)
    saving.start()
    try:
        found = {checkpoint.load(good)[1].id for _ in range(200)}
        found |= {checkpoint.set_sampler(good, SamplerConfig("ddim", steps=steps)).id for steps in range(1, 20)}
    finally:
        stop.set()
        saving.join()
    assert found <= ids
    assert len(found) == 2


# --- the file, read and written by its definition ---


def take_apart(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The tensors' header, the description, the body."""
    return mutation.take_apart(path.read_bytes())


def put_together(path: Path, header: dict[str, Any], about: object, body: bytes) -> None:
    whole = json.dumps({"__metadata__": {"ddpm": json.dumps(about)}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(whole)) + whole + body)


def identity(header: dict[str, Any], about: dict[str, Any], body: bytes) -> str:
    """The model id as docs/checkpoint-format.md tells it, without torch."""
    architecture = {key: about[key] for key in ("kind", "network", "schedule", "target")}
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    kinds = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}
    for name, entry in sorted(header.items()):
        array = np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        digest.update(f"{name} torch.{array.dtype.name} {list(array.shape)}\n".encode() + array.tobytes())
    return digest.hexdigest()


def forge(path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change a file and give it the id that belongs to the lie, so that the id alone does not tell."""
    header, about, body = take_apart(path)
    edit(header, about)
    about["id"] = identity(header, about, body)
    put_together(path, header, about, body)


def at(keys: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """The edit that puts a value into the description: ``at("network.widths", [7])``."""

    def edit(_: dict[str, Any], about: dict[str, Any]) -> None:
        *parents, last = keys.split(".")
        for key in parents:
            about = about[key]
        about[last] = value

    return edit


# --- round trips ---


@pytest.mark.parametrize("network", [UNET, REPORT], ids=["unet", "report-unet"])
@pytest.mark.parametrize("kind", ["ema", "raw"])
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path, network: NetworkConfig, kind: str) -> None:
    path, tensors = tmp_path / "model.safetensors", weights(network, ema=1, raw=2)
    written = checkpoint.save(path, tensors, replace(INFO, network=network))
    model, info = checkpoint.load(path, kind)
    assert info == written == checkpoint.read_info(path)
    assert (info.weights, info.classes, info.shape) == (("ema", "raw"), ("cat", "dog"), (1, 8, 8))
    state = model.denoiser.network.state_dict()
    assert {f"{kind}.{name}" for name in state} == {name for name in tensors if name.startswith(kind)}
    for name, value in state.items():
        assert value.dtype == tensors[f"{kind}.{name}"].dtype
        assert torch.equal(value, tensors[f"{kind}.{name}"])


@pytest.mark.parametrize(("there", "best"), [({"ema": 1, "raw": 2}, 1), ({"raw": 2}, 2), ({"ema": 1}, 1)])
def test_averaged_weights_come_before_raw_ones(tmp_path: Path, there: dict[str, int], best: int) -> None:
    checkpoint.save(tmp_path / "model.safetensors", weights(**there), INFO)
    model, _ = checkpoint.load(tmp_path / "model.safetensors")
    bias = weights(raw=best)["raw.stem.bias"]
    assert torch.equal(model.denoiser.network.state_dict()["stem.bias"], bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("network", [UNET, REPORT], ids=["unet", "report-unet"])
def test_half_precision_is_stored_and_float32_loaded(
    tmp_path: Path, network: NetworkConfig, dtype: torch.dtype
) -> None:
    path, tensors = tmp_path / "model.safetensors", weights(network, dtype, ema=1)
    checkpoint.save(path, tensors, replace(INFO, network=network))
    for name, value in checkpoint.load(path)[0].denoiser.network.state_dict().items():
        stored = tensors[f"ema.{name}"]
        assert value.dtype == (torch.float32 if stored.is_floating_point() else torch.int64)
        assert torch.equal(value, stored.to(value.dtype))


def test_a_loaded_model_is_in_evaluation_mode(good: Path) -> None:
    model, _ = checkpoint.load(good)
    assert not model.denoiser.training


def test_a_loaded_model_outlives_its_file(good: Path) -> None:
    model, _ = checkpoint.load(good)
    good.unlink()
    assert torch.equal(model.denoiser.network.state_dict()["stem.bias"], weights(ema=1)["ema.stem.bias"])


# --- what is in the file ---


def test_equal_models_are_equal_files_wherever_and_in_whatever_order(tmp_path: Path, good: Path) -> None:
    shuffled = dict(reversed(weights(ema=1, raw=2).items()))
    checkpoint.save(tmp_path / "elsewhere" / "another.safetensors", shuffled, INFO)
    assert (tmp_path / "elsewhere" / "another.safetensors").read_bytes() == good.read_bytes()


def test_the_metadata_is_one_key_that_knows_no_host_and_no_path(good: Path) -> None:
    content = good.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["ddpm"]
    text = metadata["ddpm"]
    assert socket.gethostname() not in text
    assert "/" not in text
    assert set(json.loads(text)) == {
        *("format", "kind", "network", "schedule", "target", "classes", "data", "sampler", "training"),
        *("parameters", "flops", "weights", "id"),
    }


@pytest.mark.parametrize("network", [UNET, REPORT], ids=["unet", "report-unet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_id_is_the_documented_hash(tmp_path: Path, network: NetworkConfig, dtype: torch.dtype) -> None:
    path = tmp_path / "model.safetensors"
    info = checkpoint.save(path, weights(network, dtype, ema=1, raw=2), replace(INFO, network=network))
    assert info.id == identity(*take_apart(path))


def test_the_id_ignores_how_the_model_is_sampled_and_was_trained(tmp_path: Path, good: Path) -> None:
    other = replace(INFO, sampler=SamplerConfig("ddim", steps=3), training={}, data={"name": "x"}, flops=1)
    assert checkpoint.save(tmp_path / "b", weights(ema=1, raw=2), other).id == checkpoint.read_info(good).id


def test_the_id_changes_with_any_part_of_the_model(tmp_path: Path) -> None:
    tensors = weights(ema=1)
    nudged = {**tensors, "ema.stem.bias": tensors["ema.stem.bias"].nextafter(torch.tensor(9.0))}
    ids = {
        checkpoint.save(tmp_path / "model", held, info).id
        for held, info in (
            (tensors, INFO),
            (nudged, INFO),
            ({name: value.half() for name, value in tensors.items()}, INFO),
            ({name.replace("ema", "raw"): value for name, value in tensors.items()}, INFO),
            (tensors, replace(INFO, target="eps")),
            (tensors, replace(INFO, schedule=ScheduleConfig(timesteps=11))),
            (tensors, replace(INFO, network=replace(UNET, dropout=0.5))),
        )
    }
    assert len(ids) == 7


def test_the_header_is_read_without_torch(good: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ddpm_cli import checkpoint, library\n"
        "info = checkpoint.read_info(Path(sys.argv[1])); library.find(sys.argv[1])\n"
        "assert info.shape == (1, 8, 8) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(good)], check=True)


def test_the_programs_in_the_documentation_read_a_model(good: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks[0].splitlines()) <= 6
    code = "\n".join([*blocks, "print(digest.hexdigest() == about['id'], len(weights))"])
    out = subprocess.run([sys.executable, "-c", code], cwd=good.parent, check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["True", str(len(weights(ema=1, raw=2)))]


# --- golden files: what each format means, for ever ---

IDS = {
    "model-1": "02057f14c283891c2ef635165e0ad26acc26d860a52944c705fe1fd6741df510",
    "report-1": "988e6341910d4f75fc050e3a70d0a807ff43902d24072770b7e253c53599d9b7",
    "model-2": "448f8c6828c1d45c85311aaa5d0fe595838e306acb99afbf6d1ca5825c10bc54",
    "model-3": "b97b436ba10bc14f62d52a81337213e2c21265268e2e65f4d9b7994cbe9430f1",
}
# The bare network's answer to a ramp from -1 to 1 at levels 7 and 50, row 2, columns 2 to 5 of each image.
OUTPUTS = {
    "model-1": [[-0.175939, 2.286292, 0.511282, 1.912801], [-0.169100, 2.221835, -0.007923, 2.035119]],
    "report-1": [[0.147904, 0.650864, 0.374772, 0.325435], [0.168666, 0.302902, 0.488161, 0.307129]],
    "model-2": [[-0.632470, -0.019020, -0.888908, -0.548302], [-0.604876, -0.053630, -0.907039, -0.345909]],
    "model-3": [[-0.176421, 2.285690, 0.513894, 1.911533], [-0.169086, 2.223377, -0.006763, 2.036567]],
}
# And where it learns the variance, the fraction there.
FRACTIONS = {"model-2": [[0.404361, 0.571398, 0.314693, 0.551967], [0.252530, 0.555175, 0.183334, 0.688839]]}


@pytest.mark.parametrize("name", IDS)
def test_a_golden_file_is_the_same_model_as_on_its_first_day(name: str) -> None:
    model, info = checkpoint.load(GOLDEN / f"{name}.safetensors")
    assert info.id == IDS[name]
    assert sum(p.numel() for p in model.denoiser.parameters()) == info.parameters
    level = as_tensors(model.schedule.level(np.array([7.0, 50.0])))
    with torch.no_grad():
        ramp = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
        out, fraction = model.denoiser.eval().output(ramp, level, {"label": torch.tensor([0, 1])})
    np.testing.assert_allclose(out[:, 0, 2, 2:6], OUTPUTS[name], atol=1e-4)
    assert (fraction is not None) == (name in FRACTIONS)
    if fraction is not None:
        np.testing.assert_allclose(fraction[:, 0, 2, 2:6], FRACTIONS[name], atol=1e-4)


def test_a_golden_file_says_what_it_said_on_its_first_day() -> None:
    info = checkpoint.read_info(GOLDEN / "model-1.safetensors")
    assert info.network == UNetConfig((1, 8, 8), 2, patch=2, widths=(8,), blocks=1, attention=(), heads=1)
    assert info.schedule == ScheduleConfig("cosine", 100)
    assert (info.target, info.classes, info.weights) == ("v", ("zero", "one"), ("ema",))
    assert info.sampler == SamplerConfig("ddim", steps=5, eta=0.5)
    assert info.training == {"step": 3, "steps": 3, "loss": 0.125, "recipe": {"lr": 0.002}}


def test_a_model_that_learned_its_variance_says_so_in_format_2_and_all_others_speak_format_1(tmp_path: Path) -> None:
    info = checkpoint.read_info(GOLDEN / "model-2.safetensors")
    assert info.network == UNetConfig(
        (1, 8, 8), 2, patch=2, widths=(8,), blocks=1, attention=(), heads=1, learned_variance=True
    )
    _, about, _ = take_apart(GOLDEN / "model-2.safetensors")
    assert (about["format"], about["network"]["learned_variance"]) == (2, True)
    for network in (UNET, REPORT):
        checkpoint.save(tmp_path / "plain", weights(network), replace(INFO, network=network))
        _, about, _ = take_apart(tmp_path / "plain")
        assert about["format"] == 1  # so that an older program goes on reading it
        assert "learned_variance" not in about["network"]


def test_the_golden_file_of_format_3_says_what_it_said_on_its_first_day() -> None:
    info = checkpoint.read_info(GOLDEN / "model-3.safetensors")
    assert info.schedule == ScheduleConfig("cosine", 100, zero_terminal_snr=True)
    assert info.sampler == SamplerConfig("ddim", guidance=2.0, rescale=0.5, interval=(10.0, 70.0), threshold=0.75)


def test_what_a_sampler_has_since_format_3_changes_the_format_and_not_the_id(tmp_path: Path) -> None:
    plain = checkpoint.save(tmp_path / "model", weights(UNET), INFO)
    newer = replace(INFO, sampler=SamplerConfig(guidance=2.0, interval=(100.0, 700.0)))
    assert checkpoint.save(tmp_path / "model", weights(UNET), newer).id == plain.id
    _, about, _ = take_apart(tmp_path / "model")
    assert about["format"] == 3
    assert checkpoint.read_info(tmp_path / "model").sampler == newer.sampler


def test_a_schedule_without_signal_at_its_end_is_format_3(tmp_path: Path) -> None:
    info = replace(INFO, schedule=replace(INFO.schedule, zero_terminal_snr=True), target="v")
    written = checkpoint.save(tmp_path / "model", weights(UNET), info)
    _, about, _ = take_apart(tmp_path / "model")
    assert (about["format"], about["schedule"]["zero_terminal_snr"]) == (3, True)
    model, read = checkpoint.load(tmp_path / "model")
    assert read == written
    assert model.schedule.abars[-1] == 0
    forge(tmp_path / "model", at("target", "eps"))
    refused(tmp_path / "model", "no model that can be built")


@pytest.mark.parametrize("network", [UNET, REPORT], ids=["unet", "report-unet"])
def test_a_learned_variance_is_loaded_again(tmp_path: Path, network: NetworkConfig) -> None:
    network = replace(network, learned_variance=True)
    info = checkpoint.save(tmp_path / "model", weights(network), replace(INFO, network=network))
    model, read = checkpoint.load(tmp_path / "model")
    assert read == info
    assert info.id == identity(*take_apart(tmp_path / "model"))
    assert model.denoiser.learned_variance
    forge(tmp_path / "model", at("network.learned_variance", False))
    refused(tmp_path / "model", "out.")


@pytest.mark.parametrize("name", IDS)
def test_a_golden_file_is_written_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    path = GOLDEN / f"{name}.safetensors"
    checkpoint.save(tmp_path / "again", checkpoint.read_tensors(path), checkpoint.read_info(path))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


# --- files that are no models ---


def refused(path: Path, match: str | None = None) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        checkpoint.load(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("read", [checkpoint.load, checkpoint.read_info])
def test_nothing_a_folder_and_a_path_through_a_file(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("x" * 300)):
        with pytest.raises(ModelError, match=re.escape(str(path))):
            read(path)


def test_a_file_cut_short_anywhere(good: Path) -> None:
    content = good.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    near = [*range(1, 18), *range(length, length + 18)]
    for size in [*near, *range(18, len(content), 997), len(content) - 1]:
        good.write_bytes(content[:size])
        refused(good, "is not a whole model file")


def test_a_file_with_something_behind_it(good: Path) -> None:
    good.write_bytes(good.read_bytes() + b"\0")
    refused(good, "is not a whole model file")


@pytest.mark.parametrize("lie", [0, 1, 2**20, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_lie_about_the_length_of_the_header(good: Path, lie: int) -> None:
    good.write_bytes(struct.pack("<Q", lie) + good.read_bytes()[8:])
    refused(good, "is not a whole model file")


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"{", b"\xff\xfe", b"\0" * 8, b"null", b"3", b'"x"', b"[]", b"{}", b"[" * 100_000, b"9" * 5000),
        *(b'{"__metadata__": 3}', b'{"__metadata__": {}}', b'{"__metadata__": {"format": "pt"}}'),
        *(b'{"__metadata__": {"ddpm": 3}}', b'{"__metadata__": {"ddpm": ""}}', b'{"__metadata__": {"ddpm": "[]"}}'),
        *(b'{"__metadata__": {"ddpm": "{}"}}', b'{"__metadata__": {"ddpm": "{\\"format\\": \\"1\\"}"}}'),
        b'{"__metadata__": {"ddpm": "{\\"format\\": 1}"}}',
        b'{"__metadata__": {"ddpm": "{\\"format\\": 1}"}, "x": 3}',
    ],
)
def test_a_header_that_is_something_else(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(path)


def test_weights_of_somebody_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", {"format": "pt"})
    refused(tmp_path / "other.safetensors", "is a safetensors file that ddpm did not write")


def test_a_newer_format_says_upgrade(good: Path) -> None:
    forge(good, at("format", checkpoint.FORMAT + 1))
    assert "pgrade" in refused(good, f"has format {checkpoint.FORMAT + 1}").hint


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        *(("format", None), ("format", 1.0), ("kind", "gan"), ("kind", None), ("kind", []), ("kind", {})),
        *(("network", None), ("network", []), ("network", {}), ("network.kind", "mlp"), ("network.kind", [])),
        *(("network.widths", [7]), ("network.widths", []), ("network.widths", 8), ("network.heads", 3)),
        *(("network.shape", [1, 8]), ("network.shape", [0, 8, 8]), ("network.classes", 3), ("network.depth", 1)),
        *(("network.dropout", math.nan), ("network.dropout", HUGE), ("network.patch", True)),
        *(("network.learned_variance", None), ("network.learned_variance", 1), ("network.learned_variance", "yes")),
        *(("schedule.kind", "none"), ("schedule.kind", []), ("schedule.timesteps", 0), ("schedule.timesteps", 10.0)),
        *(("schedule.max_beta", 2), ("schedule.tau", math.nan), ("schedule.tau", HUGE), ("schedule.betas", [2])),
        *(("target", "score"), ("target", []), ("classes", None), ("classes", ["cat"]), ("data", 3)),
        *(("weights", []), ("weights", ["best"]), ("weights", [[]]), ("weights", None), ("training", 3)),
        *(("sampler", None), ("sampler.name", "rk45"), ("sampler.steps", 0), ("sampler.guidance", math.inf)),
        *(("parameters", None), ("parameters", math.inf), ("flops", math.nan), ("flops", -math.inf)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_description_out_of_range(good: Path, keys: str, value: object) -> None:
    forge(good, at(keys, value))
    refused(good)


@pytest.mark.parametrize(
    ("network", "keys", "value"),
    [
        (UNET, "network.shape", [10**9, 8, 8]),
        (UNET, "network.widths", [8192]),
        (UNET, "network.blocks", 10**9),
        (UNET, "network.patch", 10**9),
        (UNET, "network.heads", 10**30),
        (UNET, "schedule.timesteps", 10**14),
        (UNET, "schedule.timesteps", 10**30),
        (REPORT, "network.widths", [8192, 8192, 8192]),
        (REPORT, "network.embedding", 10**6),
        (REPORT, "network.embedding", 10**14),
        (REPORT, "network.embedding", 10**30),
    ],
)
def test_a_description_of_something_absurdly_large(
    tmp_path: Path, network: NetworkConfig, keys: str, value: object
) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(network), replace(INFO, network=network))
    forge(path, at(keys, value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB on Linux: 128 MiB


def rename(old: str, new: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda header, _: header.update({new: header.pop(old)})


def entry(name: str, **changes: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda header, _: header[name].update(changes)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (rename("ema.stem.bias", "ema.stem.offset"), "lacks tensor ema.stem.bias"),
        (rename("ema.stem.bias", "raw.stem.offset"), "lacks tensor ema.stem.bias"),
        (rename("raw.stem.bias", "raw.zzz"), "lacks tensor raw.stem.bias"),
        (entry("ema.stem.weight", shape=[4, 8, 3, 3]), r"ema.stem.weight as F32 \(4, 8, 3, 3\), expected \(8, 4"),
        (entry("ema.stem.weight", shape=[288]), "ema.stem.weight"),
        (entry("raw.stem.weight", shape=[4, 8, 3, 3]), "raw.stem.weight"),
        (at("weights", ["ema"]), "raw"),
        (at("network.widths", [16]), "expected"),
        (at("network.blocks", 2), "lacks tensor ema."),
    ],
)
def test_tensors_that_do_not_belong_to_the_network(
    good: Path, edit: Callable[[dict[str, Any], dict[str, Any]], None], says: str
) -> None:
    forge(good, edit)
    refused(good, says)


@pytest.mark.parametrize("name", ["ema.extra", "extra", "optimizer.step"])
def test_a_tensor_too_many(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {**weights(), name: torch.zeros(2)}, INFO)
    refused(path, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8, torch.complex64, torch.float8_e4m3fn])
def test_a_tensor_of_a_dtype_that_weights_do_not_have(tmp_path: Path, dtype: torch.dtype) -> None:
    path, tensors = tmp_path / "model.safetensors", weights()
    checkpoint.save(path, {**tensors, "ema.stem.bias": tensors["ema.stem.bias"].to(dtype)}, INFO)
    refused(path, "ema.stem.bias")


@pytest.mark.parametrize("key", ["dtype", "shape", "data_offsets"])
@pytest.mark.parametrize("value", [[], {}, None, 3, "", "F99", [[]], [0, HUGE], [-1, 8]], ids=lambda v: str(v)[:9])
def test_a_tensor_whose_entry_makes_no_sense(good: Path, key: str, value: object) -> None:
    header, about, body = take_apart(good)
    header["ema.stem.bias"][key] = value
    put_together(good, header, about, body)
    refused(good)


def test_a_flipped_bit_in_the_body(good: Path) -> None:
    content = bytearray(good.read_bytes())
    content[-5] ^= 1
    good.write_bytes(content)
    refused(good, "id differs")


def test_a_description_without_an_id_gets_a_digest_over_all_of_it_and_the_tensors(tmp_path: Path) -> None:
    path, tensors = tmp_path / "state.safetensors", {"b": torch.arange(3.0), "a": torch.tensor(7)}
    checkpoint.write_tensors(path, tensors, {"format": 2, "kind": "state", "step": 5, "lr": 1e-3})
    _, about, _ = take_apart(path)
    expected = hashlib.sha256(b'{"format": 2, "kind": "state", "lr": 0.001, "step": 5}')
    expected.update(
        b"a torch.int64 []\n" + struct.pack("<q", 7) + b"b torch.float32 [3]\n" + struct.pack("<3f", 0, 1, 2)
    )
    assert about["digest"] == expected.hexdigest()
    assert checkpoint.read_tensors(path)["b"].tolist() == [0, 1, 2]
    checkpoint.write_tensors(path, tensors, {**about, "step": 6})  # as a digest of its own, not that of what it was
    assert take_apart(path)[1]["digest"] != about["digest"]
    checkpoint.read_tensors(path)


def test_a_model_has_an_id_and_no_digest(good: Path) -> None:
    assert "digest" not in take_apart(good)[1]


@pytest.mark.parametrize("where", [-1, -9, b": 5", b"0.001"])
def test_a_bit_that_was_flipped_anywhere_in_a_state_is_noticed(tmp_path: Path, where: int | bytes) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.write_tensors(path, {"a": torch.arange(4.0)}, {"format": 2, "kind": "state", "step": 5, "lr": 1e-3})
    content = bytearray(path.read_bytes())
    place = where if isinstance(where, int) else content.index(where) + len(where) - 1
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="its digest differs"):
        checkpoint.read_tensors(path)


def test_a_state_of_an_early_version_has_no_digest_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.write_tensors(path, {"a": torch.arange(4.0)}, {"format": 1, "kind": "state"})
    header, about, body = take_apart(path)
    del about["digest"]
    put_together(path, header, about, body)
    assert checkpoint.read_tensors(path)["a"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("deep", ["[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60])
def test_a_description_too_deep_to_walk_through(good: Path, deep: str) -> None:
    forge(good, at("training.recipe", json.loads(deep)))
    refused(good, "too deeply nested")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "a pipe or a device")


def test_a_device_is_not_read() -> None:
    refused(Path("/dev/zero"), "a pipe or a device")


def test_every_refusal_of_a_model_says_what_to_do(good: Path) -> None:
    for edit in (at("kind", "gan"), at("network", 3), at("format", None), entry("ema.stem.bias", dtype="C64")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[__name__], "identity", lambda *_: "")
            forge(good, edit)
        with pytest.raises(ModelError) as caught:
            checkpoint.load(good)
        assert caught.value.hint


def test_weights_that_the_file_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(ema=1), INFO)
    with pytest.raises(ModelError, match="holds no raw weights, only ema") as caught:
        checkpoint.load(path, "raw")
    assert caught.value.hint


# --- mutants ---


@pytest.fixture(scope="module")
def sane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mutants") / "model.safetensors"
    checkpoint.save(path, weights(ema=1), INFO)
    return path


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutant_is_the_same_model_or_none(sane: Path, data: st.DataObject) -> None:
    content = sane.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    mutant = bytearray(content)
    place = st.integers(0, 7 + length) | st.integers(8 + length, len(content) - 1)
    for where, what in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=3)):
        mutant[where] = what
    path = sane.with_name("mutant")
    path.write_bytes(mutant)
    try:
        model, info = checkpoint.load(path)
    except ModelError:
        return
    original = weights(ema=1)  # the change was in a place that is no part of the model, the name of a class say
    assert info.architecture() == INFO.architecture()
    for name, value in model.denoiser.network.state_dict().items():
        assert torch.equal(value, original[f"ema.{name}"])


ODDITIES = [None, True, -1, 0, 1, 2**63, 10**14, HUGE, 0.5, -1e300, math.inf, math.nan, "", "x", "\ud800", [], {}]


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    for key in list(node if isinstance(node, dict) else range(len(node))):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


@settings(max_examples=400, deadline=None)
@given(number=st.integers(0, 10**6), oddity=st.sampled_from([*ODDITIES, *([value] for value in ODDITIES)]))
def test_a_header_with_an_oddity_in_any_place_is_a_model_or_none(sane: Path, number: int, oddity: object) -> None:
    header, about, body = take_apart(sane)
    everywhere = [*places(about), *places({"": header["ema.stem.bias"]})]
    node, key = everywhere[number % len(everywhere)]
    node[key] = oddity
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):  # where it still has an id
        about["id"] = identity(header, about, body)
    mutant = sane.with_name("mutant")
    put_together(mutant, header, about, body)
    with contextlib.suppress(ModelError):
        checkpoint.load(mutant)
