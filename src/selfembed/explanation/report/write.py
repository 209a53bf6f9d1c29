"""Writes the page as a file."""

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
"""The number of tokens of a report that takes about half a minute on two cores with the embedded backbone."""


def write_report(file: str | Path, html: str) -> None:
    """Writes a page; the file appears under its name only when complete.

    Args:
        file: The file, in a folder that exists.
        html: The page.

    Raises:
        InputError: The file cannot be written.
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"report {file}: expected the name of a file in a folder that exists; make the folder")
    with arriving_file(file) as staging:
        staging.write_text(html, encoding="utf-8", errors="replace")


def leave_report(folder: str | Path, corpus: Corpus, **options: Any) -> str | None:
    """Leaves `report.html` in the folder of a finished embedder, over few texts where there is no GPU.

    Args:
        folder: The folder of the embedder.
        corpus: The corpus that it was trained on.
        options: Options of :func:`~selfembed.explanation.report.build.build_report`.

    Returns:
        None, or the reason in one line why there is no report: whatever goes wrong costs only the report.
    """
    tokens = None if torch.cuda.is_available() else REPORT_TOKENS
    try:
        write_report(Path(folder) / REPORT, build_report(folder, corpus, tokens=tokens, **options))
    except (Exception, KeyboardInterrupt) as error:
        return (str(error).splitlines() or [""])[0] or type(error).__name__
    return None
