"""The page as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from selfembed.data.corpus import Corpus
from selfembed.errors import InputError
from selfembed.explanation.report.build import build_report
from selfembed.ground.files import arriving_file

REPORT = "report.html"

REPORT_TOKENS = 8_000
"""Tokens of a report that costs about half a minute with the embedded backbone on two cores."""


def write_report(file: str | Path, html: str) -> None:
    """Writes a page; the file appears under its name only when complete.

    Raises:
        InputError: It cannot be written.
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"report {file}: expected the name of a file in a folder that exists")
    with arriving_file(file) as staging:
        staging.write_text(html, encoding="utf-8", errors="replace")


def leave_report(folder: str | Path, corpus: Corpus, **options: Any) -> str | None:
    """Leaves `report.html` in the folder of a finished embedder, over few texts where there is no GPU.

    Args:
        folder: Of the embedder.
        corpus: That it was trained on.
        options: As :func:`~selfembed.explanation.report.build.build_report` takes them.

    Returns:
        None; or, in one line, why there is no report: whatever goes wrong costs only it.
    """
    tokens = None if torch.cuda.is_available() else REPORT_TOKENS
    try:
        write_report(Path(folder) / REPORT, build_report(folder, corpus, tokens=tokens, **options))
    except (Exception, KeyboardInterrupt) as error:
        return (str(error).splitlines() or [""])[0] or type(error).__name__
    return None
