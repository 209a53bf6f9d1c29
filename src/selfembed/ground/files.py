"""Where files lie, and how they appear only complete."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfembed.errors import InputError


def cache_dir() -> Path:
    """Folder for what can be made again: ``SELFEMBED_CACHE``, else ``~/.cache/selfembed``."""
    return Path(os.environ.get("SELFEMBED_CACHE") or Path.home() / ".cache" / "selfembed")


@contextmanager
def arriving_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``folder`` to write into; it takes that name when all went well, else it goes.

    Raises:
        InputError: the disk is full or not writable.
    """
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with writing(folder):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            yield staging
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes one InputError of all that the libraries raise when something cannot be written.

    Raises:
        InputError: the disk is full or not writable.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = unwritten(error)
        if reason is None:
            raise
        instead = "set SELFEMBED_CACHE to" if path.is_relative_to(cache_dir()) else "choose"
        raise InputError(
            f"cannot write {path}: {reason}; free some space or {instead} another folder, then run again"
        ) from error


_UNWRITTEN = frozenset(
    getattr(errno, name) for name in "ENOSPC EFBIG EDQUOT EROFS EACCES EPERM EIO ENOTDIR EEXIST".split()
)
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # tokenizers and safetensors raise classes of their own
_TORCH_ERRORS = ("PytorchStreamWriter failed writing", "inline_container.cc", "unexpected pos")  # RuntimeError


def unwritten(error: BaseException | None) -> str | None:
    """Why something could not be written, where that is what an error or its cause says; else None."""
    while error is not None:
        number = getattr(error, "errno", None)
        if found := _RUST_ERROR.search(str(error)):
            number = int(found[1])
        if number in _UNWRITTEN:
            return os.strerror(number)
        if isinstance(error, RuntimeError) and any(part in str(error) for part in _TORCH_ERRORS):
            return "the disk is full or the file too large"
        error = error.__cause__ or error.__context__
    return None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; the file appears under its name only when complete."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    partial.replace(path)
