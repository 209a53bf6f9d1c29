"""Where a result comes from: seeds, versions, hardware, content hashes, memory; folders that appear only complete."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfembed.errors import InputError

if TYPE_CHECKING:
    import torch

# What a long piece of work reports: its name, how much is done, how much there is (None: unknown).
Progress = Callable[[str, int, "int | None"], None]

PACKAGES = ("selfembed", "torch", "transformers", "sentence-transformers", "peft", "datasets", "tokenizers", "numpy")


def silent(task: str, done: int, total: int | None) -> None:
    """The progress report of those who want none."""


def cache_dir() -> Path:
    """Folder for what can be made again: ``SELFEMBED_CACHE``, else ``~/.cache/selfembed``."""
    return Path(os.environ.get("SELFEMBED_CACHE") or Path.home() / ".cache" / "selfembed")


def content_hash(*parts: Any) -> str:
    """64 hex digits of SHA-256 over JSON-like parts; dataclasses count as their fields, with their class's name."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {"class": type(value).__name__, **dataclasses.asdict(value)}
        raise TypeError(f"cannot hash a {type(value).__name__}")

    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=plain).encode()).hexdigest()


def texts_hash(texts: Iterator[str]) -> str:
    """64 hex digits of SHA-256 over texts in order; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def tensors_hash(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """64 hex digits of SHA-256 over named tensors, in the order of their names: dtypes, shapes and every bit."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def files_hash(files: list[Path]) -> str:
    """64 hex digits of SHA-256 over the names and contents of files."""
    digest = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            digest.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


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


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def environment() -> dict[str, Any]:
    """Versions and hardware, for the run record."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(terse=True),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor_name() -> str:
    """The processor's model name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; the file appears under its name only when complete."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    partial.replace(path)
