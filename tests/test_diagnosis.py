"""Whatever is broken, the doctor comes to an end, says what it is, and says what to type."""

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddpm_cli import diagnosis, machine, paths
from ddpm_cli.diagnosis import CHECKS, Finding, guarded
from ddpm_cli.errors import DataError, ResourceError

WEIGHTS = paths.shipped() / "weights"
MNIST = paths.shipped() / "data" / "mnist"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def look(name: str) -> list[Finding]:
    """What a check finds, in this process."""
    return guarded(name, CHECKS[name].look)


def states(findings: list[Finding]) -> set[str]:
    assert findings
    return {finding.state for finding in findings}


def ill(findings: list[Finding]) -> Finding:
    """The one finding that is not well."""
    (finding,) = (finding for finding in findings if finding.state != "ok")
    return finding


# --- a check that fails ---------------------------------------------------------------------------------------------


def test_what_a_check_raises_is_a_finding_beside_those_before() -> None:
    def fails() -> Iterator[Finding]:
        yield Finding("x", "ok", "this went well")
        raise ZeroDivisionError("and\nthis not")

    first, second = guarded("x", fails)
    assert first == ("x", "ok", "this went well", "")
    assert second[:3] == ("x", "problem", "could not be looked at: ZeroDivisionError: and this not")
    assert "report" in second.advice


def test_an_expected_error_keeps_its_sentence_and_its_hint() -> None:
    def fails() -> Iterator[Finding]:
        raise DataError("the file is damaged", "Delete it.")
        yield

    assert guarded("x", fails) == [("x", "problem", "the file is damaged", "Delete it.")]


def test_one_check_that_fails_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, check in CHECKS.items():  # no process: these are tested below
        monkeypatch.setitem(CHECKS, name, check._replace(look=lambda: iter(())))
    monkeypatch.setattr(diagnosis, "_guarded_start", lambda *_: None)
    monkeypatch.setitem(CHECKS, "disk", diagnosis.Check(lambda: 1 / 0, "here"))  # type: ignore[arg-type,return-value]
    monkeypatch.setitem(CHECKS, "home", diagnosis.Check(lambda: [Finding("home", "ok", "well")], "here"))
    found = {finding.name: finding.state for finding in diagnosis.examine(lambda: None)}
    assert found == {"settings": "ok", "home": "ok", "disk": "problem"}


# --- processes of their own -----------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a module in the place of a library, for processes begun here."""

    def write(name: str, code: str) -> None:
        path = tmp_path / "broken" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(path.parent))

    return write


def collected(*names: str, seconds: float = 60) -> dict[str, list[Finding]]:
    return diagnosis._collect(list(names), diagnosis._start(list(names)), time.monotonic() + seconds)


CRASHES = {
    "a signal": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "an exit": ("import sys; sys.stderr.write('lib: cannot go on'); sys.exit(3)", "exit code 3: lib: cannot go on"),
    "a silent end": ("import os; os._exit(0)", "exit code 0"),
}


@pytest.mark.skipif(os.name == "nt", reason="other signals")
@pytest.mark.parametrize(("code", "how"), CRASHES.values(), ids=CRASHES)
def test_a_library_that_ends_its_process_is_a_finding_and_the_checks_behind_it_go_on(
    broken: Any, code: str, how: str
) -> None:
    broken("safetensors", code)
    found = collected("pillow", "safetensors", "typer")
    assert list(found) == ["pillow", "safetensors", "typer"]
    (finding,) = found["safetensors"]
    assert finding.state == "problem"
    assert metadata.version("safetensors") in finding.found
    assert how in finding.found
    assert finding.advice.startswith("pip install --force-reinstall 'safetensors")
    assert states(found["pillow"]) == states(found["typer"]) == {"ok"}


def test_a_library_that_ends_the_last_check(broken: Any) -> None:
    broken("safetensors", "import os; os._exit(7)")
    found = collected("pillow", "safetensors")
    assert "exit code 7" in ill(found["safetensors"]).found


def test_a_library_that_raises_when_it_is_imported_is_a_finding(broken: Any) -> None:
    broken("safetensors", "raise RuntimeError('compiled for another Python')")
    finding = ill(collected("safetensors", "typer")["safetensors"])
    assert (finding.name, finding.state) == ("safetensors", "problem")
    assert "compiled for another Python" in finding.found


def test_a_library_that_prints_is_read_all_the_same(broken: Any) -> None:
    broken("safetensors", f"print('hello', '{diagnosis.MARK}', end=''); safe_open = 1")
    assert states(collected("safetensors")["safetensors"]) == {"ok"}


def test_a_library_that_hangs_is_given_up_and_what_was_not_looked_at_is_said(broken: Any) -> None:
    broken("safetensors", "import time; time.sleep(60)")
    begun = time.monotonic()
    found = collected("safetensors", "typer", "data", seconds=1)
    assert time.monotonic() - begun < 20
    finding = ill(found["safetensors"])
    assert finding.state == "warning"
    assert "no answer" in finding.found
    assert "typer, data" in finding.found
    assert list(found) == ["safetensors"]


def test_where_torch_is_broken_what_needs_it_is_not_looked_at(broken: Any) -> None:
    broken("torch", "raise ImportError('libcudart.so: cannot open shared object file')")
    found = collected("torch", "device", "threads", "torchvision")
    assert "libcudart.so" in ill(found.pop("torch")).found
    assert found == {"device": [], "threads": [], "torchvision": []}


def test_the_current_folder_is_not_searched_for_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safetensors.py").write_text("raise SystemExit")
    (tmp_path / "random.py").write_text("raise SystemExit")
    assert states(collected("safetensors")["safetensors"]) == {"ok"}


def test_no_python_to_start_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found: dict[str, list[Finding]] = {}
    assert diagnosis._guarded_start(["numpy", "typer"], found) is None
    assert "/nowhere/python" in ill(found["numpy"]).found


# --- versions -------------------------------------------------------------------------------------------------------


def test_requirements_are_those_that_the_package_states_without_extras() -> None:
    from packaging.requirements import Requirement

    stated = [Requirement(line) for line in metadata.requires("ddpm-cli") or []]
    expected = {line.name: str(line) for line in stated if line.marker is None}
    assert diagnosis._requirements() == expected
    assert {"torch", "torchvision", "numpy", "pillow", "typer"} <= expected.keys()
    assert "pytest" not in expected


def test_requirements_in_the_older_notation(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy", "torch (==2.9.0)", "pillow (!=8.3.*,>=5.3.0)", "scipy ; extra == 'scipy'"]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert diagnosis._requirements("torchvision") == {
        "numpy": "numpy",
        "torch": "torch==2.9.0",
        "pillow": "pillow!=8.3.*,>=5.3.0",
    }


@pytest.mark.parametrize(
    ("version", "wanted", "fine"),
    [
        ("2.9.0", "torch==2.9.0", True),
        ("2.9.0+cpu", "torch==2.9.0", True),
        ("2.10.0", "torch==2.9.0", False),
        ("2.10.0", "torch>=2.9", True),  # as numbers, not as text
        ("2.8.9", "torch>=2.9", False),
        ("3.0.0a1", "torch>=2.9", True),
        ("2.9.0", "torch", True),
        (None, "torch", False),
    ],
)
def test_a_version_is_compared_with_what_is_wanted(
    monkeypatch: pytest.MonkeyPatch, version: str | None, wanted: str, fine: bool
) -> None:
    monkeypatch.setattr(diagnosis, "_version", lambda _: version)
    findings = list(diagnosis._unsatisfied("torch", wanted))
    assert (findings == []) == fine
    for finding in findings:
        assert finding.state == "problem"
        assert finding.advice.startswith("pip install ")
        assert wanted in finding.advice


@pytest.mark.parametrize("name", ["numpy", "typer"])
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(diagnosis, "_version", lambda _: None)
    finding = ill(look(name))
    assert (finding.state, finding.found) == ("problem", "is not installed")
    assert f"'{diagnosis._requirements()[name]}'" in finding.advice


def test_other_libraries_are_told_of_only_where_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.name for finding in look("ddpm")] == ["ddpm"]
    right = diagnosis._version
    monkeypatch.setattr(diagnosis, "_version", lambda name: None if name == "requests" else right(name))
    assert ill(look("ddpm")).name == "requests"


def test_another_installed_version_than_the_running_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "__version__", "99.0")
    finding = ill(look("ddpm"))
    assert finding.state == "warning"
    assert "99.0" in finding.found


# --- torchvision ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends versions of torch and torchvision, what torchvision asks for, and whether it resizes."""
    from ddpm_cli.data import resize

    def pretend(torch: str, torchvision: str, asks: str, error: Exception | None = None) -> list[Finding]:
        def resizes(images: Any, _: int) -> Any:
            if error is not None:
                raise ResourceError("resizing needs torchvision") from error
            return images

        versions = {"torch": torch, "torchvision": torchvision}
        monkeypatch.setattr(diagnosis, "_version", versions.get)
        wanted = {"ddpm-cli": {"torchvision": "torchvision"}, "torchvision": {"torch": asks}}
        monkeypatch.setattr(diagnosis, "_requirements", lambda name="ddpm-cli": wanted[name])
        monkeypatch.setattr(resize, "to_square", resizes)
        return look("torchvision")

    return pretend


def test_torchvision_that_resizes_is_well(pair: Any) -> None:
    assert states(pair("2.9.0+cu128", "0.24.0", "torch==2.9.0")) == {"ok"}
    assert "does not belong" not in ill(pair("2.9.0", "0.24.0", "torch==2.9.0", OSError("libjpeg"))).found


def test_torchvision_of_another_torch_is_a_problem_where_it_does_not_work(pair: Any) -> None:
    error = RuntimeError("operator torchvision::nms does not exist")
    finding = ill(pair("2.9.0+cpu", "0.20.0", "torch==2.5.0", error))
    assert finding.state == "problem"
    for word in ("0.20.0 does not belong to torch 2.9.0", "asks for torch==2.5.0", "torchvision::nms"):
        assert word in finding.found
    assert finding.advice.startswith("pip install ")
    assert "torch==2.9.0 torchvision --index-url https://download.pytorch.org/whl/cpu" in finding.advice


def test_torchvision_of_another_torch_is_a_warning_where_it_works(pair: Any) -> None:
    finding = ill(pair("2.9.0", "0.20.0", "torch==2.5.0"))
    assert finding.state == "warning"
    assert finding.advice == "pip install --force-reinstall torch==2.9.0 torchvision"


# --- the device -----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    return torch


def card(root: Path, vendor: str = "0x10de", kind: str = "0x030200") -> None:
    folder = root / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


def driver(root: Path) -> None:
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()


def device(root: Path) -> list[Finding]:
    return guarded("device", lambda: diagnosis._device(root))


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_is_well_on_its_cpu(tmp_path: Path) -> None:
    card(tmp_path, vendor="0x8086")
    (finding,) = device(tmp_path)
    assert (finding.state, finding.advice) == ("ok", "")
    assert finding.found == f"cpu, {machine.processor()}"


@pytest.mark.usefixtures("no_gpu")
def test_another_device_of_nvidia_is_no_gpu(tmp_path: Path) -> None:
    card(tmp_path, kind="0x020000")  # a network card
    assert states(device(tmp_path)) == {"ok"}


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_without_a_driver(tmp_path: Path) -> None:
    card(tmp_path)
    finding = ill(device(tmp_path))
    assert finding.state == "warning"
    assert "without a driver" in finding.found
    assert "--gpus all" in finding.advice


def test_a_torch_without_cuda_beside_a_gpu(tmp_path: Path, no_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path)
    monkeypatch.setattr(no_gpu.version, "cuda", None)
    assert "built without CUDA" in ill(device(tmp_path)).found


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("value", ["", "-1"])
def test_a_gpu_that_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    driver(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    finding = ill(device(tmp_path))
    assert finding.state == "warning"
    assert "CUDA_VISIBLE_DEVICES" in finding.found
    assert finding.advice == "unset CUDA_VISIBLE_DEVICES"


def test_a_driver_that_is_too_old_in_the_words_of_torch(
    tmp_path: Path, no_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1)
        return False

    driver(tmp_path)
    monkeypatch.setattr(no_gpu.cuda, "is_available", unavailable)
    finding = ill(device(tmp_path))
    assert "too old (found version 11040)" in finding.found
    assert "CUDA 12.8" in finding.found
    assert "nvidia-smi" in finding.advice


@pytest.mark.usefixtures("no_gpu")
def test_a_device_asked_for_by_the_environment_and_absent_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPM_DEVICE", "cuda")
    finding = ill(device(tmp_path))
    assert finding == ("device", "problem", "DDPM_DEVICE=cuda: there is no cuda device here", "unset DDPM_DEVICE")
    monkeypatch.setenv("DDPM_DEVICE", "nonsense")  # which is the environment's finding
    assert states(device(tmp_path)) == {"ok"}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CUDA device played by the CPU, of 80 GB."""
    import torch

    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA Pretended")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (40_000_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "ones", lambda *sizes, **_: ones(*sizes))
    return torch


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_computes_is_well(tmp_path: Path) -> None:
    (finding,) = device(tmp_path)
    assert finding.state == "ok"
    for word in ("cuda", "NVIDIA Pretended", "40 GB free of 80 GB", "the first of 2"):
        assert word in finding.found


def test_a_gpu_that_does_not_compute_is_a_problem(tmp_path: Path, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: int, device: str) -> None:
        raise RuntimeError(f"{device} error: no kernel image is available for execution on the device")

    monkeypatch.setattr(gpu, "ones", fails)
    finding = ill(device(tmp_path))
    assert finding.state == "problem"
    assert "no kernel image" in finding.found
    assert "DDPM_DEVICE=cpu" in finding.advice


def test_a_gpu_that_computes_wrongly_is_a_problem(tmp_path: Path, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = gpu.zeros
    monkeypatch.setattr(gpu, "ones", lambda *sizes, **_: zeros(*sizes))
    assert ill(device(tmp_path)).state == "problem"


def test_a_gpu_whose_memory_others_use(tmp_path: Path, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.cuda, "mem_get_info", lambda _: (5e8, 8e10))
    assert ill(device(tmp_path)).state == "warning"


# --- the machine ----------------------------------------------------------------------------------------------------


def test_threads_are_told_with_what_limits_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "processor_share", lambda *_: 1.5)
    (finding,) = look("threads")
    assert finding.state == "ok"
    for word in ("on 64 processors", "bound to 8", "the time of 1.5"):
        assert word in finding.found


@pytest.mark.parametrize(
    ("told", "threads", "state"), [("8", 8, "warning"), ("2", 2, "ok"), ("1", 1, "ok"), ("x", 2, "warning")]
)
def test_more_threads_than_processors_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, told: str, threads: int, state: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr(machine, "use_threads", lambda: threads)
    monkeypatch.setattr(machine, "available_processors", lambda: 2)
    (finding,) = look("threads")
    assert finding.state == state
    assert f"OMP_NUM_THREADS={told}" in finding.found
    assert ("export OMP_NUM_THREADS=2" in finding.advice) == (state == "warning")


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="no load average here")
@pytest.mark.parametrize(("busy", "state"), [(0.2, "ok"), (4.5, "warning")])
def test_a_busy_machine_is_reported_with_what_threads_gain(
    monkeypatch: pytest.MonkeyPatch, busy: float, state: str
) -> None:
    monkeypatch.setattr(machine, "use_threads", lambda: 2)
    monkeypatch.setattr(machine, "available_processors", lambda: 2)
    monkeypatch.setattr(machine, "speed_up", lambda threads: 0.9 * threads)
    monkeypatch.setattr(os, "getloadavg", lambda: (busy, 0.0, 0.0))
    (finding,) = look("load")
    assert finding.state == state
    assert f"on average {busy:.1f} processes" in finding.found
    assert "2 threads compute 1.8 times as fast as one" in finding.found
    assert bool(finding.advice) == (state == "warning")


def test_the_speed_up_of_one_thread_is_about_one() -> None:
    assert 0.2 < machine.speed_up(1) < 5


@pytest.mark.parametrize(
    ("memory", "state", "words"),
    [
        ((16e9, 8e9), "ok", "8.0 GB free of 16 GB"),
        ((2e9, 5e8), "warning", "500 MB free of 2.0 GB"),
        ((16e9, None), "ok", "unknown free of 16 GB"),
        ((None, None), "ok", "unknown free of unknown"),
    ],
)
def test_memory(monkeypatch: pytest.MonkeyPatch, memory: tuple[Any, Any], state: str, words: str) -> None:
    monkeypatch.setattr(machine, "memory", lambda: memory)
    (finding,) = look("memory")
    assert (finding.state, finding.found) == (state, words)


def test_precision_is_the_one_that_auto_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda: True)
    monkeypatch.setattr(machine, "choose_device", lambda _: SimpleNamespace(type="cpu"))
    assert look("precision")[0].found == "--precision auto is bf16 for training, float32 for sampling and evaluation"


def test_no_compiler_is_no_illness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "compilers", lambda **_: [])
    (finding,) = look("compiler")
    assert finding.state == "ok"
    assert "none" in finding.found
    assert "install" in finding.advice


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_data_directory_that_is_not_there_yet_is_well_and_stays_away(home: Path) -> None:
    (finding,) = look("home")
    assert finding.state == "ok"
    assert str(home) in finding.found
    assert not home.exists()


def test_the_sizes_of_what_the_data_directory_holds(home: Path) -> None:
    for name, size in (("runs/a/state", 3_000_000), ("models/b", 1_000_000), ("cache/c/d/e", 2_000)):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_bytes(b"x" * size)
    before = sorted(home.rglob("*"))
    (finding,) = look("home")
    assert finding == ("home", "ok", f"{home}: runs 3.0 MB, models 1.0 MB, cache 2 kB", "")
    assert sorted(home.rglob("*")) == before


def test_a_data_directory_of_very_many_files_is_not_walked_to_its_end(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "WALK", -1)
    (home / "runs").mkdir(parents=True)
    for name in "abc":
        (home / "runs" / name).write_bytes(b"x" * 1000)
    assert "runs more than 1 kB" in look("home")[0].found


def test_a_file_in_the_place_of_the_data_directory_is_a_problem(home: Path) -> None:
    home.write_bytes(b"")
    finding = ill(look("home"))
    assert finding.state == "problem"
    assert str(home) in finding.found


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("below", ["", "runs"])
def test_a_data_directory_that_cannot_be_written_is_a_problem(home: Path, below: str) -> None:
    (home / "runs").mkdir(parents=True)
    (home / below).chmod(0o500)
    try:
        assert "no permission" in ill(look("home")).found
    finally:
        (home / below).chmod(0o700)


def test_a_data_directory_that_the_system_refuses_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    home.mkdir()
    monkeypatch.setattr(diagnosis.tempfile, "TemporaryFile", refuse)
    finding = ill(look("home"))
    assert finding.state == "problem"
    assert "read-only" in finding.found
    assert "DDPM_HOME" in finding.advice


@pytest.mark.parametrize(("free", "state"), [(5e9, "ok"), (1e9, "warning"), (5e7, "problem")])
def test_free_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path, free: float, state: str) -> None:
    asked = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=int(free))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    (finding,) = look("disk")
    assert finding.state == state
    assert asked == [tmp_path]  # the nearest folder that is there
    assert str(home) in finding.found
    assert bool(finding.advice) == (state != "ok")


def test_settings_that_can_be_read_are_well_and_others_a_problem(home: Path) -> None:
    (finding,) = guarded("settings", lambda: diagnosis._settings(lambda: None))
    assert finding.state == "ok"
    assert "not there" in finding.found

    def refuse() -> None:
        raise DataError("config.toml is no TOML", "Write a table a command.")

    home.mkdir()
    (home / "config.toml").write_text("[")
    assert guarded("settings", lambda: diagnosis._settings(refuse)) == [
        ("settings", "problem", "config.toml is no TOML", "Write a table a command.")
    ]
    (finding,) = guarded("settings", lambda: diagnosis._settings(lambda: None))
    assert finding.found == str(home / "config.toml")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what ships with the package, to be broken."""
    shutil.copytree(WEIGHTS, tmp_path / "package" / "weights")
    shutil.copytree(MNIST, tmp_path / "package" / "data" / "mnist")
    monkeypatch.setattr(paths, "shipped", lambda: tmp_path / "package")
    return tmp_path / "package"


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_shipped_data_are_compared_to_the_last_bit(package: Path) -> None:
    assert states(look("data")) == {"ok"}
    flip(package / "data" / "mnist" / "t10k-images-idx3-ubyte.gz", 1_000_000)
    finding = ill(look("data"))
    assert finding.state == "problem"
    assert "t10k-images" in finding.found
    assert finding.advice.startswith("pip install --force-reinstall")
    (package / "data" / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    assert "train-labels" in ill(look("data")).found


@pytest.mark.parametrize("content", [b"", b"<html>Log in</html>", b"damaged"], ids=["empty", "a web page", "damaged"])
def test_fetched_data_are_compared_too(content: bytes) -> None:
    from ddpm_cli.data import KNOWN

    (file,) = KNOWN["cifar100"].all_files
    path = paths.datasets() / "cifar100" / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    finding = ill(look("data"))
    assert finding.state == "problem"
    assert finding.found.startswith(f"{path} is damaged or of another data set: ")
    assert "ddpm data rm cifar100" in finding.advice
    path.unlink()
    assert [finding.found for finding in look("data")] == ["intact: mnist"]


def test_shipped_weights_are_compared_to_the_last_bit(package: Path) -> None:
    path = package / "weights" / "mnist.safetensors"
    whole = json.loads(path.with_suffix(".json").read_text())["id"]
    assert any(f"mnist {whole[:12]}" in finding.found for finding in look("weights") if finding.state == "ok")
    flip(path)
    (finding,) = (finding for finding in look("weights") if str(path) in finding.found)
    assert finding.state == "problem"
    assert finding.advice.startswith("pip install --force-reinstall")
    path.unlink()
    assert any("mnist is missing" in finding.found for finding in look("weights") if finding.state == "problem")


def test_the_model_that_is_taken_when_none_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = look("models")
    assert finding.state == "ok"
    record = json.loads((WEIGHTS / "mnist.json").read_text())
    assert f"mnist (shipped, {record['id'][:12]})" in finding.found
    monkeypatch.setenv("DDPM_MODEL", "nobody")
    finding = ill(look("models"))
    assert finding.state == "problem"
    assert "'nobody'" in finding.found
    assert "unset DDPM_MODEL" in finding.advice
    path = home / "models" / "nobody.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model")
    assert {finding.state for finding in look("models")} == {"warning", "problem"}


def test_a_damaged_model_is_a_warning_and_says_how_to_be_rid_of_it(home: Path) -> None:
    path = home / "runs" / "two words" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model")
    finding = ill(look("models"))
    assert finding.state == "warning"
    assert finding.advice == "ddpm models rm 'two words'"


# --- the environment ------------------------------------------------------------------------------------------------


def test_the_variables_that_are_set(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DDPM_DEVICE", "cpu")
    monkeypatch.setenv("DDPM_OFFLINE", "Yes")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    (finding,) = look("environment")
    assert finding.state == "ok"
    for word in (f"DDPM_HOME={home}", "DDPM_DEVICE=cpu", "DDPM_OFFLINE=Yes", "OMP_NUM_THREADS=3"):
        assert word in finding.found
    assert "hidden" not in finding.found


def test_a_variable_that_nothing_reads_is_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_DEVCE", "cpu")
    finding = ill(look("environment"))
    assert finding.state == "warning"
    assert "DDPM_DEVCE" in finding.found
    assert finding.advice == "Did you mean DDPM_DEVICE?"


@pytest.mark.parametrize(("name", "value"), [("DDPM_DEVICE", "gpu"), ("DDPM_DEVICE", "CPU"), ("DDPM_OFFLINE", "maybe")])
def test_a_value_that_every_command_would_refuse_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    finding = ill(look("environment"))
    assert finding.state == "problem"
    assert f"{name} is {value!r}" in finding.found
    assert finding.advice == f"unset {name}"
