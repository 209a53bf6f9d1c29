"""Where files lie, and how they appear only complete."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selfembed.errors import InputError

# What a file or folder is called until it is complete: a dot, the beginning of its name, 16 hex digits, ".tmp".
_NAME_BYTES = 255  # of a file's name, on all usual file systems
_NAME_CHARACTERS = 50  # of its name, so that the whole stays below the 255 bytes that a file system allows
_ARRIVING = re.compile(r"\.(?P<name>.*)\.[0-9a-f]{16}\.tmp", re.DOTALL)
_STALE_SECONDS = 24 * 3600.0


def cache_dir() -> Path:
    """Gives the folder for what can be made again: `SELFEMBED_CACHE`, else `~/.cache/selfembed`."""
    return Path(os.environ.get("SELFEMBED_CACHE") or Path.home() / ".cache" / "selfembed")


@contextmanager
def arriving_file(file: Path) -> Iterator[Path]:
    """Gives a name beside `file` to write to, and renames what was written to `file`, or deletes it after an error.

    No other process or machine gets the same name. Where several write one file at the same time, the file of the one
    that ends last is kept, whole.

    Args:
        file: Where the finished file shall lie.

    Raises:
        InputError: The disk is full or not writable.
    """
    staging = _staging(file)
    try:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            sweep_stale(file)
            yield staging
            staging.replace(file)
    finally:
        with suppress(OSError):  # it is not there, or cannot be, which has been said
            staging.unlink()


def require_new(out: Path) -> None:
    """Refuses an output folder that would overwrite something, or that a finished folder could not be moved to.

    Args:
        out: The output folder.

    Raises:
        InputError: `out` is neither free nor an empty folder, or a folder cannot have its name.
    """
    if out.name in ("", "..") or "\0" in out.name:
        raise InputError(f"output {out}: expected the name of a new folder; give it one")
    longest = _NAME_BYTES - len(".partial")
    if (size := len(os.fsencode(out.name))) > longest:
        raise InputError(f"output {out}: its name has {size} bytes; expected at most {longest}; choose a shorter one")
    try:
        link, mount = out.is_symlink(), os.path.ismount(out)
        here = out.is_dir() and out.samefile(".")
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise InputError(
            f"output {out}: cannot be looked at ({error.strerror}); expected a new folder; name another one"
        ) from error
    if taken:
        raise InputError(f"output {out}: exists already; expected a new folder; name one, or remove this one")
    if link or mount or here:
        kind = "a link" if link else "a mount point" if mount else "the folder you are in"
        raise InputError(f"output {out}: {kind}, which no folder can be moved onto; expected a new folder; name one")


@contextmanager
def arriving_folder(folder: Path, *, shared: bool = False) -> Iterator[Path]:
    """Gives an empty folder beside `folder` to write into, and renames it to `folder`, or deletes it after an error.

    Args:
        folder: Where the finished folder shall lie; nothing, or an empty folder, may be there.
        shared: Whether the name says what is in the folder, as in the cache. Then, where another process was quicker,
            its folder is kept and this one deleted.

    Raises:
        InputError: The disk is full or not writable, or something was put into a `folder` that is not shared.
    """
    staging = _staging(folder)
    try:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            sweep_stale(folder)
            staging.mkdir()
            yield staging
            try:
                staging.rename(folder)
            except OSError as error:
                lost = error.errno in (errno.ENOTEMPTY, errno.EEXIST) and folder.is_dir()
                if not (shared and lost):
                    raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging(path: Path) -> Path:
    return path.with_name(f".{path.name[:_NAME_CHARACTERS]}.{secrets.token_hex(8)}.tmp")


def sweep_stale(path: Path, *, older_than: float = _STALE_SECONDS) -> None:
    """Removes what killed processes left of `path` before it was complete; in the cache, of its neighbours too.

    Args:
        path: File or folder that is about to be written.
        older_than: Age in seconds since the last change; what is younger may still be being written.
    """
    anything = path.is_relative_to(cache_dir())
    for place in path.parent.glob(".*.tmp"):
        found = _ARRIVING.fullmatch(place.name)
        if found is None or not (anything or found["name"] == path.name[:_NAME_CHARACTERS]):
            continue
        try:
            if time.time() - place.lstat().st_mtime <= older_than:
                continue
        except OSError:  # gone meanwhile
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            with suppress(OSError):
                place.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns whatever libraries raise when something cannot be written into an InputError.

    Args:
        path: What is being written, for the message.

    Raises:
        InputError: The disk is full or not writable.
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
    getattr(errno, name) for name in "ENOSPC EFBIG EDQUOT EROFS EACCES EPERM EIO ENOTDIR EEXIST ENOTEMPTY".split()
)
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # tokenizers and safetensors raise classes of their own
_TORCH_ERRORS = ("PytorchStreamWriter failed writing", "inline_container.cc", "unexpected pos")  # RuntimeError


def unwritten(error: BaseException | None) -> str | None:
    """Says why something could not be written, where that is what an error or its cause tells; else None."""
    while error is not None:
        number: int | None = getattr(error, "errno", None)
        if found := _RUST_ERROR.search(str(error)):
            number = int(found[1])
        if number is not None and number in _UNWRITTEN:
            return os.strerror(number)
        if isinstance(error, RuntimeError) and any(part in str(error) for part in _TORCH_ERRORS):
            return "the disk is full or the file too large"
        error = error.__cause__ or error.__context__
    return None


def write_json(file: Path, value: Any) -> None:
    """Writes JSON; the file appears under its name only when it is complete.

    Raises:
        InputError: The disk is full or not writable.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with arriving_file(file) as staging:
        # Half a surrogate pair, which no UTF-8 can hold, is written as JSON escapes it.
        staging.write_text(text, encoding="utf-8", errors="backslashreplace")
