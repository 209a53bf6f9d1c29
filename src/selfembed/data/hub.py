"""Data sets of the `datasets` library: given, saved, on the Hugging Face hub, or cloned from there into a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfembed.data.files import ROWS, UNREADABLE, kind, stem
from selfembed.data.ledger import Ledger, Place, numbered, one_line
from selfembed.data.rows import Choose, Columns, Row, batch_rows, string_columns, with_columns
from selfembed.errors import InputError
from selfembed.ground.files import cache_dir

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w-]*|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<config>[\w.+=-]+))?", re.ASCII
)
_BATCH = 256
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
_SPLIT_WORD = re.compile(rf"(?:^|[\W_])({'|'.join(_SPLITS)})(?=$|[\W_\d])", re.I)
_NO_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
_CARD_KEYS = {
    "annotations_creators", "configs", "dataset_info", "dataset_name", "language", "language_creators", "license",
    "multilinguality", "pretty_name", "size_categories", "source_datasets", "tags", "task_categories", "task_ids",
}  # fmt: skip


def hub_id(text: str) -> tuple[str, str | None] | None:
    """Splits `ID` or `ID:CONFIG`; None for what can be neither, as a name with the suffix of a file of texts."""
    found = _HUB_ID.fullmatch(text)
    if found is None or (found["config"] is None and kind(Path(text))):
        return None
    return found["id"], found["config"]


def of_split(splits: Mapping[str, Any], split: str, name: str) -> Any:
    """Takes one of several splits.

    Raises:
        InputError: There is no such split.
    """
    if split not in splits:
        raise InputError(f"{name}: no split {split!r}; expected one of {', '.join(map(repr, splits))}")
    return splits[split]


def dataset_rows(dataset: datasets.Dataset, choose: Choose, place: Place) -> Iterator[Row]:
    """Yields the rows of a data set, reduced to the chosen columns."""
    schema = dataset.features.arrow_schema
    chosen = list(choose(Columns(names=tuple(schema.names), strings=string_columns(schema), place=place)))
    for table in dataset.select_columns(chosen).with_format("arrow").iter(_BATCH):
        yield from batch_rows(table, place)


def streamed_rows(dataset: datasets.IterableDataset, choose: Choose, place: Place) -> Iterator[Any]:
    """Yields the rows of a data set that is read as a stream, reduced to the chosen columns."""
    return with_columns(numbered(dataset, place), choose, place)


def is_saved(folder: Path) -> bool:
    """Says whether a folder was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def saved_rows(folder: Path, split: str, choose: Choose, ledger: Ledger, place: Place) -> Iterator[Row]:
    """Yields the rows of a folder written by `save_to_disk`, reduced to the chosen columns.

    Raises:
        InputError: The folder has no such split, or `choose` or the ledger refuses it.
    """
    import datasets

    ledger.files += 1
    try:
        with no_progress_bars():
            saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, datasets.DatasetDict):
            saved = of_split(saved, split, place.name)
        yield from dataset_rows(saved, choose, place)
    except InputError:
        raise
    except (*UNREADABLE, ValueError, KeyError, TypeError) as error:
        ledger.bad("unreadable file", place, "the saved data set may be damaged; write it again", error)


def hub_rows(name: str, config: str | None, split: str, choose: Choose, ledger: Ledger, place: Place) -> Iterator[Any]:
    """Yields the rows of a data set on the hub as they come over the network, reduced to the chosen columns.

    Raises:
        InputError: There is no such data set, configuration or split, or `choose` or the ledger refuses it.
    """
    import datasets

    of_config = () if config is None else (config,)
    try:
        with no_progress_bars():
            rows = datasets.load_dataset(name, *of_config, split=split, streaming=True)
    except Exception as error:  # whatever the network, the hub and the data set's files may raise
        raise InputError(
            f"{place.name}: is no file or folder here, and no data set with split {split!r} could be had from the "
            f"Hugging Face hub ({one_line(_root(error))}); expected a path, an ID or ID:CONFIG; check the spelling "
            "and the network (HF_HUB_OFFLINE, if set, keeps the hub offline), or give a local file"
        ) from error
    try:
        with no_progress_bars():
            yield from streamed_rows(rows, choose, place)
    except InputError:
        raise
    except Exception as error:
        ledger.bad("hub failed", place, "check the network, or download the data set and give its files", error)


def cloned_files(folder: Path, split: str, config: str | None = None) -> tuple[list[Path], dict[str, int]] | None:
    """Finds the files of one split of a folder that holds a data set in the form of the hub.

    That is a folder with a data card (a README.md that begins with the hub's metadata), whose splits are those that
    the `datasets` library finds; or a folder of several splits in which each file, or its folder, is named by its
    split.

    Args:
        folder: The folder.
        split: Name of the split.
        config: Name of the configuration, where there are several.

    Returns:
        The files, and the number of files left out, by their kind; None where the folder holds something else.

    Raises:
        InputError: The data set has no such split or configuration.
    """
    files = [Path(root, name) for root, names in _walk(folder) for name in names]
    cards = [file for file in files if file.name.lower().startswith("readme") or file.name.upper() == "LICENSE.md"]
    data = [file for file in files if kind(file) and file not in cards and file.name not in _NO_DATA]
    rows = [file for file in data if kind(file, ROWS)]
    if any(kind(file, (".md", ".rst")) for file in data):
        return None
    if rows and has_card(folder):
        splits = _named_by_library(folder, config)
    else:
        found = {file: _split_in(file.relative_to(folder)) for file in data}
        if config is not None or None in found.values() or len(set(found.values())) < 2:
            return None
        splits = {}
        for file, name in found.items():
            splits.setdefault(str(name), []).append(file)
    chosen = of_split(splits, split if split in splits else _SPLITS.get(split.lower(), split), repr(str(folder)))
    left_out = {
        "data card": len(cards),
        f"file of another split than {split!r}": len(set(data) - set(chosen)),
    }
    return chosen, {reason: count for reason, count in left_out.items() if count}


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps the `datasets` library quiet."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders and the names of their files, nothing hidden."""
    for root, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield root, sorted(name for name in files if not name.startswith("."))


def has_card(folder: Path) -> bool:
    """Says whether a README.md begins with metadata as the hub's data cards do."""
    try:
        with open(folder / "README.md", encoding="utf-8") as file:
            if file.readline().strip() != "---":
                return False
            head = file.read(1 << 20)
    except (OSError, UnicodeError):
        return False
    keys = re.findall(r"^([A-Za-z_-]+):", head.split("\n---", 1)[0], re.M)
    return bool(_CARD_KEYS & set(keys))


def _named_by_library(folder: Path, config: str | None) -> dict[str, list[Path]]:
    import datasets

    try:
        with no_progress_bars():
            builder = datasets.load_dataset_builder(str(folder), config, cache_dir=str(cache_dir() / "datasets"))
        found = builder.config.data_files or {}
    except Exception as error:  # whatever the library makes of a folder
        raise InputError(
            f"{str(folder)!r}: has a data card, but is not read as a data set ({one_line(_root(error))}); expected "
            "FOLDER or FOLDER:CONFIG; name its configuration, or give its files"
        ) from error
    return {str(split): [Path(file) for file in files] for split, files in found.items()}


def _split_in(path: Path) -> str | None:
    """The split that a file's path names; the file's own name counts before its folders'.

    A file of rows is named by a split as its shards are, train-00000; a text by nothing but the split.
    """
    for part in (stem(path), *reversed(path.parent.parts)):
        found = _SPLIT_WORD.search(part) if kind(path, ROWS) else _SPLIT_WORD.fullmatch(part)
        if found:
            return _SPLITS[found[1].lower()]
    return None


def _root(error: BaseException) -> BaseException:
    """The error that an error began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
