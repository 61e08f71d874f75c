"""A model in one file that describes itself: safetensors, with a JSON document in its metadata.

Invariant: whatever a file holds, reading it either gives a model or raises :class:`ModelError`; sizes, names, shapes
and dtypes are compared with the architecture before anything is allocated. A file holds nothing from a clock, a host
or a path, so equal models are equal files. The header is readable without torch. The format is told on one page in
docs/checkpoint-format.md.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from ddpm_cli import config, documents, filekinds, files, paths, ranges
from ddpm_cli.config import NetworkConfig, SamplerConfig, ScheduleConfig, Shape, Target
from ddpm_cli.errors import DdpmError, ModelError, UsageError
from ddpm_cli.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.denoiser import Denoiser
    from ddpm_cli.sampling import DiffusionModel

FORMAT = 3  # the newest; a file has the oldest that can say what it holds
IN_3 = ("rescale", "interval", "threshold")  # of a sampler, that earlier formats do not know
DAMAGED = "Copy or download it again, or train anew."
WHOLE = "Name a .safetensors file or a run folder: ddpm models list"
MAX_HEADER = 16 * 2**20  # bytes; the header of a thousand-layer model stays below one of these sixteen MiB
DTYPES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}  # what a tensor may be, and the bytes of one element
Weights = Literal["ema", "raw"]
Header = Mapping[str, tuple[str, tuple[int, ...]]]  # of every tensor: dtype and shape


@dataclass(frozen=True)
class Info:
    """What a model file says of itself.

    Attributes:
        network: the architecture.
        schedule: the noise schedule it was trained on.
        target: what its network predicts.
        classes: names of its classes; empty: unconditional.
        data: the set it learned: name, images, mean and std of the pixels in [-1, 1].
        sampler: how it is sampled by default.
        training: what is known of its training: step, steps, recipe, loss.
        parameters: of the network.
        flops: of the network for one image forward; a multiply-add counts two.
        weights: which weights the file holds, the best first.
        id: sha256 over the architecture and the tensors.
    """

    network: NetworkConfig
    schedule: ScheduleConfig
    target: Target
    classes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    training: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    flops: int = 0
    weights: tuple[Weights, ...] = ()
    id: str = ""

    @property
    def shape(self) -> Shape:
        return self.network.shape

    @property
    def format(self) -> int:
        """The oldest format that can describe it, so that older programs go on reading what they understand."""
        if self.schedule.zero_terminal_snr or any(getattr(self.sampler, name) for name in IN_3):
            return 3
        return 2 if self.network.learned_variance else 1

    @property
    def is_flat(self) -> bool:
        """Whether every image it was trained on is flat, so that flat samples are right."""
        return bool(self.data.get("flat")) or self.data.get("std") == 0

    def architecture(self) -> dict[str, Any]:
        """What, with the weights, makes the model what it is: the part of the description that the id covers."""
        kind = next(name for name, known in config.NETWORKS.items() if known is type(self.network))
        network, schedule = {"kind": kind, **config.to_dict(self.network)}, config.to_dict(self.schedule)
        # What came with later formats is left out where it is not in use: ids stay as they were.
        if not self.network.learned_variance:
            del network["learned_variance"]
        if not self.schedule.zero_terminal_snr:
            del schedule["zero_terminal_snr"]
        return {
            "kind": "diffusion",
            "network": network,
            "schedule": schedule,
            "target": self.target,
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            **self.architecture(),
            "classes": list(self.classes),
            "data": dict(self.data),
            "sampler": {key: value for key, value in config.to_dict(self.sampler).items() if value or key not in IN_3},
            "training": dict(self.training),
            "parameters": self.parameters,
            "flops": self.flops,
            "weights": list(self.weights),
            "id": self.id,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Info":
        """Raises: UsageError, KeyError or TypeError where the description is not one."""
        network = dict(values["network"])
        kind = config.NETWORKS[network.pop("kind")]
        info = cls(
            network=config.from_dict(kind, network, "network"),
            schedule=config.from_dict(ScheduleConfig, values["schedule"], "schedule"),
            target=values["target"],
            classes=tuple(map(str, values["classes"])),
            data=dict(values["data"]),
            sampler=config.from_dict(SamplerConfig, values["sampler"], "sampler"),
            training=dict(values["training"]),
            parameters=int(values["parameters"]),
            flops=int(values["flops"]),
            weights=tuple(values["weights"]),
            id=str(values["id"]),
        )
        if info.target not in ("eps", "x0", "v") or not set(info.weights) <= {"ema", "raw"} or not info.weights:
            raise TypeError("target or weights")
        if info.network.classes not in (0, len(info.classes)):
            raise TypeError("classes")
        info.schedule.check_target(info.target)
        for name, value, allowed in (
            ("parameters", info.parameters, ranges.WORK),
            ("flops", info.flops, ranges.WORK),
            ("step", info.training.get("step"), ranges.EVERY),
            ("steps", info.training.get("steps"), ranges.EVERY),
            ("images", info.data.get("images"), ranges.EVERY),
            ("mean", info.data.get("mean"), ranges.PIXEL),
            ("std", info.data.get("std"), ranges.PIXEL),
        ):
            if isinstance(value, int | float):  # what is not a number is shown as it is
                config.check_number(name, value, allowed)
        return info


# --- files of tensors with a JSON description -----------------------------------------------------------------------


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], about: Mapping[str, Any]) -> None:
    """Write tensors and their description atomically; equal contents give equal bytes.

    A description without an ``id`` of its own, that of a state, gets a ``digest`` over all of it and the tensors.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if "id" not in about:
        about = {**about, "digest": _digest(about, plain)}
    files.write_bytes(path, save(plain, {"ddpm": json.dumps(about, sort_keys=True, allow_nan=False)}))


class Opened(NamedTuple):
    """A file of tensors that is open. Whatever replaces it meanwhile, all that is read here is of one file.

    Attributes:
        path: of the file.
        file: its bytes.
        about: the description in it.
        header: dtype and shape of every tensor.
    """

    path: Path
    file: BinaryIO
    about: dict[str, Any]
    header: Header

    def tensors(self) -> dict[str, "Tensor"]:
        """All tensors, on the CPU, verified where the file has a digest.

        Raises:
            ModelError: it is not what was written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            self.file.seek(0)
            tensors = load(self.file.read())
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{self.path} is not a whole model file of ddpm ({_brief(error)})", DAMAGED) from error
        shapes = {name: shape for name, (_, shape) in self.header.items()}
        if {name: tuple(value.shape) for name, value in tensors.items()} != shapes:
            raise ModelError(f"{self.path} can be read in two ways", DAMAGED)  # a name twice in its header, for example
        # Files of early versions have none.
        if "digest" in self.about and self.about["digest"] != _digest(self.about, tensors):
            raise ModelError(f"{self.path} does not hold what was written into it (its digest differs)", DAMAGED)
        return tensors


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    """Refuse a file that is not a damaged model but something else.

    Raises:
        ModelError: it is, with its kind.
    """
    kind = filekinds.kind_of(head)
    if kind == "empty":
        raise ModelError(f"{path} is empty", DAMAGED)
    if kind == filekinds.GIT_LFS:
        raise ModelError(f"{path} is {kind}, not a model", "Download the file that it stands for: git lfs pull")
    if kind and kind != filekinds.SAFETENSORS:
        raise ModelError(f"{path} is {kind}, not a model", WHOLE)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file of tensors; its header is read and checked, without torch and without the tensors.

    Raises:
        ModelError: missing, unreadable, cut short, or not written by ddpm.
    """
    with contextlib.ExitStack() as stack:
        yield _open(path, stack)


def _open(path: Path, stack: contextlib.ExitStack) -> Opened:
    try:
        documents.size_of(path)  # of a pipe or a device there is none
        file = stack.enter_context(path.open("rb"))
        size = os.fstat(file.fileno()).st_size
        _refuse_other_kinds(path, file.read(filekinds.HEAD))
        file.seek(0)
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER, size - 8):
            raise ValueError(f"header of {length} bytes in a file of {size}")
        header = documents.parse(file.read(length))
        if header and "ddpm" not in header.get("__metadata__", {}):
            hint = "Models of other programs cannot be loaded. Train one: ddpm train."
            raise ModelError(f"{path} is a safetensors file that ddpm did not write", hint)
        about = documents.parse(header.pop("__metadata__")["ddpm"])
        tensors = {name: (str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        if size != 8 + length + end:
            raise ValueError(f"{size} bytes, expected {8 + length + end}")
        if not isinstance(about, dict):
            raise TypeError("description")
        newest = about["format"]
        if not isinstance(newest, int):
            raise TypeError(f"format {newest!r}")
    except FileNotFoundError as error:
        raise ModelError(f"there is no model file {path}", "Without --model, ddpm takes the newest run.") from error
    except IsADirectoryError as error:
        raise ModelError(f"{path} is a folder, expected a .safetensors file", WHOLE) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", WHOLE) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise ModelError(f"{path} is not a whole model file of ddpm ({_brief(error)})", DAMAGED) from error
    if newest > FORMAT:
        raise ModelError(
            f"{path} has format {newest}, and this version reads up to {FORMAT}",
            "Upgrade: pip install --upgrade ddpm-cli",
        )
    return Opened(path, file, about, tensors)


def read_header(path: Path) -> tuple[dict[str, Any], Header]:
    """The description in a file, and dtype and shape of every tensor, without torch and without the tensors.

    Raises:
        ModelError: as :func:`opened`.
    """
    with opened(path) as model:
        return model.about, model.header


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """All tensors of a file, on the CPU, verified where the file has a digest.

    Raises:
        ModelError: as :func:`opened`, or it is not what was written.
    """
    with opened(path) as model:
        return model.tensors()


def _digest(about: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> str:
    """sha256 over a description, but for its digest, and the tensors."""
    return model_id({key: value for key, value in about.items() if key != "digest"}, tensors)


def _brief(found: object) -> str:
    """The beginning of what somebody may have written, or of what was said of it, as text that stays in its line."""
    return printable(" ".join(str(found)[:500].split()))[:80] or type(found).__name__


# --- models ---------------------------------------------------------------------------------------------------------


def read_info(path: Path) -> Info:
    """What a model file says of itself, read from its header without torch.

    Raises:
        ModelError: missing, corrupt, too new, or not a model.
    """
    about, _ = read_header(path)
    return _info(path, about)


def _info(path: Path, about: Mapping[str, Any]) -> Info:
    if about.get("kind") == "state":
        raise ModelError(
            f"{path.name} is for --resume; the model is {paths.MODEL} in the same folder",
            f"Name that file or the folder: {path.with_name(paths.MODEL)}",
        )
    if not isinstance(about.get("kind"), str) or about["kind"] not in LOADERS:
        raise ModelError(f"{path} holds {_brief(about.get('kind'))}, expected one of: {', '.join(LOADERS)}", WHOLE)
    try:
        return Info.from_dict(about)
    except (DdpmError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path} describes no model that can be built ({_brief(error)})", DAMAGED) from error


def save(path: Path, tensors: Mapping[str, "Tensor"], info: Info) -> Info:
    """Write a model.

    Args:
        path: where to.
        tensors: ``ema.NAME`` and ``raw.NAME``, or one of them, for every NAME of the network's state.
        info: its description; `weights` and `id` are filled in here.

    Returns:
        The description as written.
    """
    info = described(info, tensors)
    write_tensors(path, tensors, info.to_dict())
    return info


def set_sampler(path: Path, sampler: SamplerConfig) -> Info:
    """Change how a model is drawn from by default; its weights, its id and its age stay.

    Returns:
        The description as written.

    Raises:
        ModelError: as :func:`read_info`.
    """
    with opened(path) as model:
        tensors, info = model.tensors(), _info(path, model.about)
        before = os.fstat(model.file.fileno())
    written = save(path, tensors, replace(info, sampler=sampler))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # else it would be the newest model
    return written


def described(info: Info, tensors: Mapping[str, "Tensor"]) -> Info:
    """A description with `weights` and `id` filled in, as a file of these tensors has it."""
    weights: tuple[Weights, ...] = tuple(w for w in ("ema", "raw") if any(n.startswith(f"{w}.") for n in tensors))
    return replace(info, weights=weights, id=model_id(info.architecture(), tensors))


def model_id(architecture: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> str:
    """sha256 over the architecture and the tensors, by name: dtype, shape and bytes of each."""
    import torch

    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: Path, weights: Weights | None = None) -> tuple["DiffusionModel", Info]:
    """A model from its file, on the CPU in float32.

    Args:
        path: a model file.
        weights: which of them; None: the best it has, `ema` before `raw`.

    Raises:
        ModelError: missing, corrupt, too new, or without the weights asked for.
    """
    with opened(path) as model:
        info = _info(path, model.about)
        return LOADERS[model.about["kind"]](model, info, weights or info.weights[0]), info


def build_denoiser(info: Info) -> "Denoiser":
    """A fresh denoiser of a model's architecture."""
    from ddpm_cli.denoiser import Denoiser
    from ddpm_cli.networks import build

    return Denoiser(build(info.network), info.target, info.network.time, info.network.learned_variance)


def check_tensors(path: Path, found: Header, expected: "Mapping[str, Tensor]") -> None:
    """Refuse a file whose tensors are not exactly the expected ones, by name, shape and kind of number.

    Raises:
        ModelError: naming the first tensor that is missing, unknown or wrong.
    """
    for name in sorted(expected.keys() ^ found.keys()):
        raise ModelError(f"{path} {'lacks' if name in expected else 'has an unknown'} tensor {_brief(name)}", DAMAGED)
    for name, (dtype, shape) in found.items():
        whole = not expected[name].is_floating_point()
        if shape != tuple(expected[name].shape) or dtype not in DTYPES or whole != (dtype == "I64"):
            was, wanted = _brief(f"{dtype} {shape}"), tuple(expected[name].shape)
            raise ModelError(f"{path} has {name} as {was}, expected {wanted}", DAMAGED)


def _load_diffusion(model: Opened, info: Info, weights: Weights) -> "DiffusionModel":
    import torch

    from ddpm_cli.sampling import DiffusionModel
    from ddpm_cli.schedule import Schedule

    path = model.path
    if weights not in info.weights:
        raise ModelError(
            f"{path} holds no {weights} weights, only {' and '.join(info.weights)}",
            f"Leave out --weights, or say --weights {info.weights[0]}.",
        )
    try:
        schedule = Schedule(info.schedule)
    except UsageError as error:
        raise ModelError(f"{path} has a schedule that cannot be: {error.message}", DAMAGED) from error
    with torch.device("meta"):  # shapes only: a lying header allocates nothing
        denoiser = build_denoiser(info)
    expected = denoiser.network.state_dict()
    check_tensors(
        path, model.header, {f"{kind}.{name}": value for kind in info.weights for name, value in expected.items()}
    )
    tensors = model.tensors()
    # Over the file's own words: a later version may describe the same architecture with more of them.
    if model_id({key: model.about[key] for key in info.architecture()}, tensors) != info.id:
        raise ModelError(f"{path} does not hold the weights that it was written with (its id differs)", DAMAGED)
    state = {
        name: tensor.float() if (tensor := tensors[f"{weights}.{name}"]).is_floating_point() else tensor
        for name in expected
    }
    denoiser.network.load_state_dict(state, assign=True)
    return DiffusionModel(denoiser.eval(), schedule, info.shape, info.classes, info.sampler, flat=info.is_flat)


LOADERS: dict[str, Callable[..., "DiffusionModel"]] = {"diffusion": _load_diffusion}
