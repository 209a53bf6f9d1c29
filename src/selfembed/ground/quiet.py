"""Keeps other libraries off the screen."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Keeps the libraries' own bars and notes off the screen, for a program that reports by itself."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

    import datasets
    import transformers

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for logger in ("datasets.packaged_modules", "sentence_transformers.base.sampler"):  # we say it in one line
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
