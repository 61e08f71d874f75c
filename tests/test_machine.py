"""The machine is asked once, and what it lacks is said before anything starts."""

import os
import platform
import tempfile
from pathlib import Path

import pytest
import torch

from ddpm_cli import machine, paths
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.networks.layers import Convolution, Norm

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def devices(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_absent_is_a_missing_resource(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    devices(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ResourceError, match=f"no {wanted} device") as caught:
        machine.choose_device(wanted)
    assert caught.value.exit_code == 6
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda:0"), (True, False, "cuda:0"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_first_cuda_device_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    devices(monkeypatch, cuda, mps)
    assert str(machine.choose_device("auto")) == expected
    assert str(machine.choose_device("cpu")) == "cpu"


def test_half_precision_on_a_cpu_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="fp16"):
        machine.choose_precision("fp16", CPU)


@pytest.mark.parametrize(("wanted", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_precision_asked_for_is_the_one_used(wanted: str, dtype: torch.dtype) -> None:
    assert machine.choose_precision(wanted, CPU) == dtype


def test_auto_on_a_cpu_is_float32_but_in_training_where_the_processor_reports_bf16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reported in (True, False):
        monkeypatch.setattr(machine, "has_bf16", lambda reported=reported: reported)
        assert machine.choose_precision("auto", CPU) == torch.float32
        dtype = torch.bfloat16 if reported else torch.float32
        assert machine.choose_precision("auto", CPU, training=True) == dtype


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_bf16 gfni", True),
        ("amx_bf16 amx_tile amx_int8", True),
        ("fpu avx2 avx512f avx512_bf16x", False),
        ("fpu sse2 avx2", False),
        ("", False),
    ],
)
def test_bf16_is_what_the_processor_reports(tmp_path: Path, flags: str, expected: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: bf16\nflags\t\t: {flags}\nbogomips\t: 1\n")
    assert machine.has_bf16(cpuinfo) == expected
    assert not machine.has_bf16(tmp_path / "missing")  # not Linux


def test_no_clock_chooses_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.time, "perf_counter", lambda: pytest.fail("measured"))
    assert machine.choose_precision("auto", CPU, training=True) in (torch.bfloat16, torch.float32)
    assert not (paths.cache() / "bf16.json").exists()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_threads_are_no_more_than_the_processors_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        for allowed in ({3}, {0, 5}):
            torch.set_num_threads(4)
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, allowed=allowed: allowed)
            monkeypatch.setattr(machine, "processor_share", lambda _: None)
            assert machine.use_threads() == torch.get_num_threads() == len(allowed)
        torch.set_num_threads(1)  # fewer than allowed: torch or the user had a reason
        assert machine.use_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_threads_are_what_the_user_said_where_the_user_said_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # torch read it when it was imported: nothing is left to do
    before = torch.get_num_threads()
    assert machine.use_threads() == torch.get_num_threads() == before


# --- containers -----------------------------------------------------------------------------------------------------

V1 = "sys/fs/cgroup/cpu,cpuacct"
V2 = "sys/fs/cgroup"


def system(root: Path, files: dict[str, str]) -> Path:
    """A file system that tells about control groups, as the kernel writes them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v1(path: str, quota: int) -> dict[str, str]:
    return {f"{path}/cpu.cfs_quota_us": f"{quota}\n", f"{path}/cpu.cfs_period_us": "100000\n"}


SHARES = {
    "no control groups": ({}, None),
    "v2, the own group": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, 1.5),
    "v2, another period": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "20000 10000\n"}, 2),
    "v2, no limit": ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/cpu.max": "max 100000\n"}, None),
    "v2, the parent's limit": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/b/cpu.max": "max 100000\n",
            f"{V2}/a/cpu.max": "300000 100000\n",
        },
        3,
    ),
    "v2, the least of three": (
        {
            "proc/self/cgroup": "0::/a/b/c\n",
            f"{V2}/a/b/c/cpu.max": "400000 100000\n",
            f"{V2}/a/b/cpu.max": "50000 100000\n",
            f"{V2}/a/cpu.max": "300000 100000\n",
        },
        0.5,
    ),
    "v2, a sibling's limit": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/other/cpu.max": "100000 100000\n",
            f"{V2}/a/cpu.max": "max 100000\n",
        },
        None,
    ),
    "v2, a path of the host that is not visible": (
        {"proc/self/cgroup": "0::/docker/abc\n", f"{V2}/cpu.max": "250000 100000\n"},
        2.5,
    ),
    "v2, a path outside of the namespace": (
        {"proc/self/cgroup": "0::/../../x\n", f"{V2}/cpu.max": "250000 100000\n", "sys/x/cpu.max": "1 1"},
        2.5,
    ),
    "v1": ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n", **v1(f"{V1}/docker/abc", 300000)}, 3),
    "v1, no limit": ({"proc/self/cgroup": "4:cpu,cpuacct:/\n", **v1(V1, -1)}, None),
    "v1, alone in its folder": ({"proc/self/cgroup": "4:cpu:/a\n", **v1("sys/fs/cgroup/cpu/a", 100000)}, 1),
    "v1, the mount point is the own group": ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n", **v1(V1, 50000)}, 0.5),
    "v1 beside v2": ({"proc/self/cgroup": "0::/\n3:cpuset:/\n2:cpu:/a\n", **v1("sys/fs/cgroup/cpu/a", 200000)}, 2),
    "v2 beside v1": ({"proc/self/cgroup": "0::/a\n", f"{V2}/unified/a/cpu.max": "200000 100000\n"}, 2),
    "cpuset is another controller": (
        {"proc/self/cgroup": "2:cpuset:/a\n", **v1("sys/fs/cgroup/cpuset/a", 100000)},
        None,
    ),
    "nonsense": ({"proc/self/cgroup": "\nx\n0::\n", f"{V2}/cpu.max": "a b\n"}, None),
    "zeros": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "0 0\n"}, None),
    "empty": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": ""}, None),
}


@pytest.mark.parametrize(("files", "share"), SHARES.values(), ids=SHARES)
def test_the_share_of_a_container(tmp_path: Path, files: dict[str, str], share: float | None) -> None:
    assert machine.processor_share(system(tmp_path, files)) == share


@pytest.mark.parametrize(
    ("quota", "bound", "count"), [(150000, 8, 2), (150000, 1, 1), (800000, 4, 4), (10000, 8, 1), (200000, 8, 2)]
)
def test_processors_are_those_bound_and_no_more_than_the_share_rounded_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: int, bound: int, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
    root = system(tmp_path, {"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": f"{quota} 100000\n"})
    assert machine.available_processors(root) == count


def test_threads_are_no_more_than_the_share_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "processor_share", lambda _: 1.2)
    torch.set_num_threads(4)
    assert machine.use_threads() == torch.get_num_threads() == 2
    torch.set_num_threads(4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert machine.use_threads() == torch.get_num_threads() == 4


MEMINFO = {
    "proc/meminfo": "MemTotal:       16000000 kB\nMemFree:  1000000 kB\nMemAvailable:    8000000 kB\nHugePages: x\n"
}
WHOLE, FREE = 16_000_000 * 1024, 8_000_000 * 1024
MEMORY = {
    "no container": ({}, (WHOLE, FREE)),
    "v2": (
        {
            "proc/self/cgroup": "0::/\n",
            f"{V2}/memory.max": "2000000000\n",
            f"{V2}/memory.current": "1500000000\n",
            f"{V2}/memory.stat": "anon 9\nfile 700000000\ninactive_file 500000000\n",
        },
        (2_000_000_000, 1_000_000_000),
    ),
    "v2, no limit": ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, (WHOLE, FREE)),
    "v2, more than there is": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "99000000000\n", f"{V2}/memory.current": "5\n"},
        (WHOLE, FREE),
    ),
    "v2, neighbours leave less than the own limit": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/b/memory.max": "2000000000\n",
            f"{V2}/a/b/memory.current": "500000000\n",
            f"{V2}/a/memory.max": "4000000000\n",
            f"{V2}/a/memory.current": "3900000000\n",
        },
        (2_000_000_000, 100_000_000),
    ),
    "v1": (
        {
            "proc/self/cgroup": "7:memory:/docker/a\n",
            "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "3000000000\n",
            "sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes": "2500000000\n",
            "sys/fs/cgroup/memory/docker/a/memory.stat": "inactive_file 1\ntotal_inactive_file 500000000\n",
        },
        (3_000_000_000, 1_000_000_000),
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": "7:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "2500000000\n",
        },
        (WHOLE, FREE),
    ),
    "used up": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "1000000000\n", f"{V2}/memory.current": "1000004096\n"},
        (1_000_000_000, 0),
    ),
}


@pytest.mark.parametrize(("files", "expected"), MEMORY.values(), ids=MEMORY)
def test_the_memory_of_a_container(tmp_path: Path, files: dict[str, str], expected: tuple[int, int]) -> None:
    assert machine.memory(system(tmp_path, MEMINFO | files)) == expected


def test_memory_where_the_system_has_no_proc(tmp_path: Path) -> None:
    total, free = machine.memory(tmp_path)
    assert free is None
    if hasattr(os, "sysconf"):
        assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="not Linux")
def test_the_memory_of_this_machine_is_plausible() -> None:
    total, free = machine.memory()
    assert total is not None
    assert free is not None
    assert 0 < free < total
    assert 1e8 < total <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# --- the processor and the compiler ---------------------------------------------------------------------------------


def test_the_processor_by_its_name_or_else_its_kind(tmp_path: Path) -> None:
    known, other = tmp_path / "x86", tmp_path / "arm"
    known.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some Processor @ 2GHz\nmodel name\t: x\n")
    other.write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    assert machine.processor(known) == "Some Processor @ 2GHz"
    for path in (other, tmp_path / "nowhere"):
        assert machine.processor(path) in (platform.processor(), platform.machine())
        assert machine.processor(path)


def test_compilers_are_those_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compilers(on_cpu=True) == machine.compilers(on_cpu=False) == []
    for name in ("clang++", "gcc", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o700)
    assert machine.compilers(on_cpu=True) == ["clang++"]
    assert machine.compilers(on_cpu=False) == ["gcc"]
    monkeypatch.setenv("CXX", "mine")
    assert machine.compilers(on_cpu=True) == ["mine", "clang++"]


@pytest.mark.parametrize(("device", "expected"), [("cpu", "C++"), ("cuda", "C"), ("mps", "C")])
def test_a_missing_compiler_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, expected: str
) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compiling_obstacle(torch.device(device)) == f"no {expected} compiler was found"
    for name in ("g++", "gcc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o700)
    assert machine.compiling_obstacle(torch.device(device)) == ""


def test_what_was_measured_is_kept_by_its_circumstances() -> None:
    assert machine.remembered("speed", "here") is None
    machine.remember("speed", "here", {"a": 1.5})
    machine.remember("speed", "there", [2])
    assert machine.remembered("speed", "here") == {"a": 1.5}
    assert machine.remembered("speed", "there") == [2]
    assert machine.remembered("another", "here") is None


@pytest.mark.timeout(600)  # an old processor compiles for a minute
@pytest.mark.skipif(not machine.compilers(on_cpu=True), reason="no C++ compiler")
def test_a_compiled_network_answers_and_learns_as_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(home / "compiled"))
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())  # compile_network sets both
    monkeypatch.setattr(tempfile, "tempdir", None)
    torch.manual_seed(0)
    network = torch.nn.Sequential(Convolution(1, 8), Norm(2, 8), torch.nn.SiLU(), Convolution(8, 1))
    x = torch.randn(2, 1, 8, 8)

    def found() -> list[torch.Tensor]:
        network.zero_grad()
        out = network(x)
        out.square().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in network.parameters())]

    usual = found()
    network[0].winograd = True
    machine.compile_network(network)
    assert not network[0].winograd  # the compiler makes convolutions of its own
    torch.testing.assert_close(found(), usual, rtol=1e-4, atol=1e-5)
    assert (home / "compiled").is_dir()
