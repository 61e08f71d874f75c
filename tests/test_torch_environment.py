"""What torch finds in its environment when it is loaded, and who may place code where it is loaded from."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ddpm_cli import machine, paths, torch_environment

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes")


def run(code: str, **environment: str) -> str:
    """Run code in a new process in which none of the variables is set but those given."""
    ours = {*torch_environment.CHOSEN_WAITING, torch_environment.CACHE, "TMPDIR"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW = "import {module}, os; print(os.environ['TORCHINDUCTOR_CACHE_DIR'], os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize("module", ["ddpm_cli", "ddpm_cli.schedule", "ddpm_cli.cli"])
def test_the_environment_is_set_before_torch_is_imported(module: str) -> None:
    code = f"import {module}, sys; print('torch' in sys.modules); {SHOW.format(module=module)}"
    imported, *found = run(code).split()
    assert imported == "False"
    assert found == [str(paths.cache() / "inductor"), torch_environment.SPINS]


def test_what_the_user_chose_is_kept(tmp_path: Path) -> None:
    show = SHOW.format(module="ddpm_cli")
    assert run(show, TORCHINDUCTOR_CACHE_DIR=str(tmp_path), GOMP_SPINCOUNT="7") == f"{tmp_path} 7"
    assert run(show, OMP_WAIT_POLICY="ACTIVE").split()[1] == "None"


def test_an_optimizer_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    code = """
        import torch
        from ddpm_cli import networks
        from ddpm_cli.config import TrainConfig, UNetConfig
        from ddpm_cli.denoiser import Denoiser
        from ddpm_cli.training import TrainState

        network = networks.build(UNetConfig(shape=(1, 8, 8), widths=(8,), blocks=1, attention=()))
        state = TrainState.fresh(Denoiser(network, "v", "level"), TrainConfig(), None)
        state.optimizer.step()
        import torch._dynamo
    """
    run(code, TMPDIR=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]  # DDPM_HOME of the tests
    assert (paths.cache() / "inductor").is_dir()


@pytest.mark.timeout(600)  # an old processor compiles for a minute
@pytest.mark.skipif(not machine.compilers(on_cpu=True), reason="no C++ compiler")
def test_compiled_code_is_kept_and_loaded_below_the_home_folder_alone(tmp_path: Path) -> None:
    """Nothing in the shared temporary folder, where another user could have placed it: headers and caches included."""
    shared = tmp_path / "shared"
    shared.mkdir()
    code = """
        import torch
        from ddpm_cli import machine

        network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.SiLU())
        assert machine.compiling_obstacle(torch.device("cpu")) == ""
        optimizer = torch.optim.AdamW(network.parameters())  # imports what fixes the folder
        machine.compile_network(network)
        network(torch.ones(2, 4)).sum().backward()
    """
    run(code, TMPDIR=str(shared))
    assert list(shared.iterdir()) == []
    assert list((paths.cache() / "inductor").rglob("*.so"))


@posix
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_network_is_not_compiled_where_others_can_place_code(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "compiled"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    monkeypatch.setattr(machine, "compilers", lambda *_: ["g++"])
    expected = f"other users can write to {folder}, where code would be loaded from"
    assert machine.compiling_obstacle(machine.choose_device("cpu")) == expected
    folder.chmod(0o700)
    assert machine.compiling_obstacle(machine.choose_device("cpu")) == ""
    tmp_path.chmod(mode)  # a folder that others can rename and replace
    found = machine.compiling_obstacle(machine.choose_device("cpu"))
    assert (found == "") == (mode == 0o1777)
    tmp_path.chmod(0o700)


@posix
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="needs an administrator, to change an owner")
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    folder.mkdir(mode=0o700)
    assert torch_environment.writable_by_others(folder) is None
    os.chown(folder, 12345, 12345)
    assert torch_environment.writable_by_others(folder) == folder


@posix
def test_a_link_is_judged_by_what_it_points_to(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.mkdir()
    shared.chmod(0o777)
    link.symlink_to(shared)
    assert torch_environment.writable_by_others(link) == shared


def test_a_home_that_cannot_be_written_gives_way_to_a_folder_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code = """
        from ddpm_cli import torch_environment

        torch_environment.make_cache()
        print(torch_environment.compiled_code(), torch_environment.compiled_code().is_dir())
    """
    found = run(code, DDPM_HOME=str(tmp_path / "file" / "home"), TMPDIR=str(tmp_path)).split()
    assert Path(found[0]).parent == tmp_path
    assert found[1] == "True"
    assert not Path(found[0]).exists()  # removed when the process ended


@pytest.mark.parametrize("name", ["h ome", "h'ome", 'h"ome', "h\udcffome", "h(o)me;", "h$ome"])
def test_a_home_whose_path_compilers_do_not_accept_gives_way_too(tmp_path: Path, name: str) -> None:
    """The command line of a compiler is split at spaces, and what it prints must be UTF-8."""
    code = """
        from ddpm_cli import machine, torch_environment

        machine.compilers = lambda *_: ["g++"]
        obstacle = machine.compiling_obstacle(machine.choose_device("cpu"))
        print(ascii([obstacle, str(torch_environment.compiled_code())]))
    """
    (tmp_path / "plain").mkdir()
    obstacle, folder = ast.literal_eval(run(code, DDPM_HOME=str(tmp_path / name), TMPDIR=str(tmp_path / "plain")))
    assert obstacle == ""
    assert Path(folder).parent == tmp_path / "plain"
    try:
        (tmp_path / name).mkdir(exist_ok=True)
    except OSError:
        pytest.skip("no such names here")
    obstacle, folder = ast.literal_eval(run(code, DDPM_HOME=str(tmp_path / name), TMPDIR=str(tmp_path / name)))
    assert obstacle == f"compilers do not accept the path {folder}"


def test_other_letters_than_english_ones_are_accepted() -> None:
    """As g++ and clang++ do with UTF-8."""
    assert torch_environment.compilers_accept(Path("/home/jürgen/数据/ddpm-1.0_x/cache"))
