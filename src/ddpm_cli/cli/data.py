"""``ddpm data``: the data sets known by name: which are here, where, and how large; fetch them, and be rid of them."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import paths
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output
from ddpm_cli.errors import DataError, unknown_name
from ddpm_cli.library import file_size
from ddpm_cli.printable import printable

if TYPE_CHECKING:
    from ddpm_cli.data.inventory import FolderStore, Stock
    from ddpm_cli.data.known import KnownSet

app = o.group("data", "Data sets: list, fetch, path, rm.")

COLUMNS = ("name", "train", "test", "shape", "classes", "download", "present", "licence", "where")

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", autocompletion=complete.data_sets, help="A known set: see ddpm data list.", show_default=False
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME", autocompletion=complete.data_sets, help="Known sets: see ddpm data list.", show_default=False
    ),
]
Doomed = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME|FOLDER",
        autocompletion=complete.data_sets,
        help="Known sets; of a folder of images, what was made of it.",
        show_default=False,
    ),
]


@app.command("list", epilog=o.EXAMPLES["data list"])
def list_(data_dir: o.DataDir = None, config: o.Config = None, json: o.Json = False, quiet: o.Quiet = False) -> None:
    """List the known data sets.

    What each holds, how large it is to fetch, and whether and where it is on this machine. With --json also what was
    made of folders of images, to read them faster.
    """
    from ddpm_cli.data import KNOWN, inventory

    out = Output(json, quiet)
    stocks = [inventory.take(known, data_dir) for known in KNOWN.values()]
    made = inventory.folders()
    out.document({"sets": [_about(stock) for stock in stocks], "folders": [dataclasses.asdict(each) for each in made]})
    for error in dict.fromkeys(error.message for stock in stocks for error in stock.damaged.values()):
        out.note(f"warning: {error}")
    # What would not fit a terminal comes last.
    shown = len(COLUMNS) - 2 if sys.stdout.isatty() else len(COLUMNS)
    out.table(COLUMNS[:shown], [_row(stock)[:shown] for stock in stocks])
    if shown < len(COLUMNS) and not json:
        out.note("Where one is: ddpm data path NAME. Licences too: ddpm data list --json")
    if made:
        size = file_size(sum(each.bytes for each in made))
        out.note(f"{size} were made of folders of images, to read them faster; drop one's: ddpm data rm FOLDER")


@app.command(epilog=o.EXAMPLES["data fetch"])
def fetch(
    names: Names,
    data_dir: o.DataDir = None,
    offline: o.Offline = False,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fetch and verify data sets.

    What is on this machine already is only verified: every file is compared with its known sha256. Prints the folder
    that holds the files. An interrupted download goes on where it stopped.
    """
    out = Output(json, quiet)
    sets = [_fetched(known, data_dir, offline, out) for known in _known(names)]
    out.document({"sets": sets})
    out.paths(*(folder for about in sets for folder in about["where"]))


@app.command(epilog=o.EXAMPLES["data path"])
def path(
    name: Name, data_dir: o.DataDir = None, config: o.Config = None, json: o.Json = False, quiet: o.Quiet = False
) -> None:
    """Print where a data set is.

    The folder that holds its files. If they are not all on this machine, or not what their checksums say, the exit
    code is 3.
    """
    from ddpm_cli.data import inventory

    out = Output(json, quiet)
    (known,) = _known([name])
    stock = inventory.take(known, data_dir)
    if stock.missing:
        raise DataError(
            f"{stock.missing[0].name} of {name} is not on this machine", f"Fetch it: ddpm data fetch {name}"
        )
    for error in stock.damaged.values():
        raise error
    out.document({"name": name, "where": stock.folders, "files": list(stock.files.values())})
    out.paths(*stock.folders)


@app.command(epilog=o.EXAMPLES["data rm"])
def rm(
    names: Doomed,
    yes: o.Yes = False,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Remove fetched data sets.

    Removes what was fetched and what was made of it to read it faster, and prints what is gone. What ships with the
    package or belongs to the system stays, and so does every folder of yours: of one that is named, only what was made
    of it goes. Where there is nothing to remove, that is no error.
    """
    from ddpm_cli import data
    from ddpm_cli.data import inventory

    out = Output(json, quiet)
    folders = [name for name in names if data.is_path(name)]
    chosen, made = _known([name for name in names if name not in folders]), _made_of(folders)
    doomed = [path for known in chosen for path in inventory.removable(known)] + [each.path for each in made]
    doomed = list(dict.fromkeys(doomed))
    gone: dict[Path, int] = {}
    if doomed and out.agreed(_question(names, chosen, doomed, out), yes):
        for known in chosen:
            gone |= inventory.remove(known)
        gone |= inventory.remove_folders(made)
    out.document({"removed": list(gone), "bytes": sum(gone.values())})
    out.paths(*gone)
    kept = "nothing was removed" if doomed else f"there is nothing to remove of {', '.join(dict.fromkeys(names))}"
    out.note(f"{file_size(sum(gone.values()))} freed" if gone else kept)


def _known(names: list[str]) -> "list[KnownSet]":
    """The sets of these names, each once."""
    from ddpm_cli.data import KNOWN

    for name in names:
        if name not in KNOWN:
            raise unknown_name("data set", name, KNOWN)
    return [KNOWN[name] for name in dict.fromkeys(names)]


def _made_of(folders: list[str]) -> "list[FolderStore]":
    """What was made of these folders of images, and of what lies below them."""
    from ddpm_cli.data import inventory

    places = [printable(str(paths.absolute(name))) for name in folders]
    made = [each for each in inventory.folders() if each.source is not None]
    return [each for each in made if any(f"{each.source}/".startswith(f"{place}/") for place in places)]


def _fetched(known: "KnownSet", data_dir: Path | None, offline: bool, out: Output) -> dict[str, Any]:
    """Fetch what is missing of a set, verify all of it, and say where it is."""
    from ddpm_cli.data import find, inventory

    missing = inventory.take(known, data_dir).missing
    if missing:
        out.note(f"{known.name}: licence {known.licence}; {known.credit}")
    with out.progress(f"fetching {known.name}", "MB", sum(file.size for file in missing) / 1e6, 1e-6) as live:
        files = find.find(known, known.all_files, data_dir=data_dir, offline=offline, say=out.note, progress=live)
    where = tuple(dict.fromkeys(file.parent for file in files))
    out.note(f"{known.name} is {'' if missing else 'already '}in {' and '.join(map(str, where))}, and intact")
    fetched = {"fetched": [file.name for file in missing], "bytes": sum(file.size for file in missing)}
    return {"name": known.name, **fetched, "where": where, "files": files}


def _about(stock: "Stock") -> dict[str, Any]:
    """A set as --json tells it."""
    known = stock.known
    return {
        "name": known.name,
        "images": known.counts,
        "shape": known.shape,
        "classes": known.classes,
        "download_bytes": known.size,
        "present": stock.present,
        "damaged": list(stock.damaged),
        "where": stock.folders,
        "disk_bytes": stock.bytes,
        "licence": known.licence,
        "credit": known.credit,
        "mirrors": known.mirrors,
    }


def _row(stock: "Stock") -> list[str]:
    """A set as the table shows it."""
    known = stock.known
    counts = [f"{known.counts[split]:,}" for split in ("train", "test")]
    shape = "x".join(map(str, known.shape))
    where = ", ".join(map(str, stock.folders))
    size = file_size(known.size)
    return [known.name, *counts, shape, str(len(known.classes)), size, stock.present, known.licence, where]


def _question(names: list[str], chosen: "list[KnownSet]", doomed: list[Path], out: Output) -> str:
    """What is asked before these files are removed; first, which other sets need them too."""
    from ddpm_cli.data import inventory

    for known in chosen:
        if others := inventory.sharing(known):
            out.note(f"{', '.join(others)} are read from the same file as {known.name}")
    files = f"{len(doomed)} file{'s' if len(doomed) > 1 else ''}, {file_size(sum(map(inventory.size, doomed)))}"
    folders = " and ".join(dict.fromkeys(str(path.parent) for path in doomed))
    return f"Remove {', '.join(dict.fromkeys(names))} ({files}) from {folders}?"
