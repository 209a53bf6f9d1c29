"""The folder that a run leaves, and the one beside it that holds what is unfinished."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selfembed.errors import InputError
from selfembed.ground.files import arriving_folder, require_new, write_json
from selfembed.training.plan import Plan

RAW_VECTORS = "raw.safetensors"  # what the raw embedder gave, which a run that goes on reads again
_PLAN_FILE = "plan.json"
_STAGE_FOLDER = re.compile(r"\.?\d+-")  # stages, merged weights, and those on their way


def open_work_folder(plan: Plan, out: Path) -> Path:
    """Opens the folder for checkpoints, `<out>.partial`.

    It arrives with the plan in it, so that whatever else is found under that name is somebody else's.

    Raises:
        InputError: `out` or the folder cannot be used, or the folder holds something else than this unfinished run.
    """
    require_new(out)
    work = out.with_name(out.name + ".partial")
    if work.is_symlink() or os.path.ismount(work) or (work.exists() and not work.is_dir()):
        raise InputError(
            f"output {out}: checkpoints would go to {work}, which is a file, a link or a mount point; "
            "expected a new name; choose another output"
        )
    if work.is_dir() and any(work.iterdir()):
        _require_same_plan(plan, out, work)
        return work
    # A rename replaces an empty folder.
    with arriving_folder(work) as staging:
        write_json(staging / _PLAN_FILE, _described(plan))
    return work


def _described(plan: Plan) -> dict[str, Any]:
    return {**plan.to_dict(), "tokenizer": plan.backbone.tokenizer_key, "key": plan.key}


def _require_same_plan(plan: Plan, out: Path, work: Path) -> None:
    try:
        before = json.loads((work / _PLAN_FILE).read_text())
        key = before["key"]
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"output {out}: checkpoints would go to {work}, which holds something else than an unfinished run; "
            "expected a new name; choose another output, or move that folder away"
        ) from None
    if key != plan.key:
        now = _described(plan)
        changed = [name for name in now if name != "key" and json.loads(json.dumps(now[name])) != before.get(name)]
        raise InputError(
            f"output {out}: {work} holds an unfinished run with another {', '.join(changed) or 'version'}; "
            "expected the same; repeat that command to go on with it, or remove the folder to start anew"
        )


def remove_work_folder(work: Path) -> None:
    """Takes away what a run has put into its work folder, and the folder itself where nothing else is in it."""
    for path in sorted(work.iterdir()):
        if _STAGE_FOLDER.match(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    for name in (RAW_VECTORS, _PLAN_FILE):
        (work / name).unlink(missing_ok=True)
    with suppress(OSError):
        work.rmdir()


@contextmanager
def removed_unless_resumable(work: Path) -> Iterator[None]:
    """Takes a work folder away when an error came before there was anything to go on from."""
    try:
        yield
    except Exception:
        if work.is_dir() and not any(path.is_dir() for path in work.iterdir()):
            remove_work_folder(work)
        raise
