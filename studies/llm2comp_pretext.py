"""LLM2Comp's pretext tasks side by side, and beside Text2Token's first stage, on the same number of texts.

    python studies/llm2comp_pretext.py --preset cpu

Writes ``llm2comp_pretext_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are subsamples.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from findings import better, steadier, verdict
from variants import PRESETS, Study, Variant, command_line, run_quietly

FINDING = (
    "of the tasks that compress a text into memory tokens, distillation (CTKD) is better than the continuation's "
    "likelihood (CT-NLL), and both than reconstruction (RC); CTKD is also the steadiest over runs (LLM2Comp: 52.5 "
    "against 46.2 and 35.8; standard deviations 1.4, 5.3 and 2.7)."
)
TASKS = {"CTKD": "distillation", "CT-NLL": "continuation", "RC": "reconstruction"}
STAGE = "compression"
RECIPE, RAW = "llm2comp-unsup", "raw, memory tokens"

# Ours: a few hundred texts teach a bidirectional reading nothing (docs/log.md), one that starts as a prompt something.
_FOR_FEW_TEXTS: dict[str, Any] = {"attention": "causal", "memory_init": "prompt", "word_length": True}


def budget(
    *, steps: int, batch_size: int, max_length: int, learning_rate: float, embed_length: int = 512, **more: Any
) -> dict[str, Any]:
    """Settings of the one stage; the recipe's other stage has batches that these would not fit."""
    stage = {"steps": steps, "batch_size": batch_size, "max_length": max_length, "learning_rate": learning_rate}
    return {**{f"{STAGE}.{name}": value for name, value in stage.items()}, "embed_length": embed_length, **more}


BUDGETS = {
    "paper": budget(steps=8_000, batch_size=4, max_length=512, learning_rate=1e-4),
    "cpu": budget(steps=60, batch_size=8, max_length=96, learning_rate=5e-4, embed_length=128, **_FOR_FEW_TEXTS),
    "smoke": budget(steps=4, batch_size=2, max_length=64, learning_rate=2e-4, embed_length=80, **_FOR_FEW_TEXTS),
}
TEXT2TOKEN_STEPS = {"paper": 500, "cpu": 15, "smoke": 2}  # of 64, 32 and 4: as many texts, read once


def variants(preset: str) -> list[Variant]:
    """The untrained readings, the three tasks, and Text2Token's first stage."""
    settings = BUDGETS[preset]
    steps = {"data_driven.steps": TEXT2TOKEN_STEPS[preset]}
    return [
        Variant(name="raw, PromptEOL"),
        Variant(name=RAW, recipe=RECIPE, settings=settings),
        *(
            Variant(name=name, recipe=RECIPE, stages=(STAGE,), settings={**settings, "task": task}, raw=RAW)
            for name, task in TASKS.items()
        ),
        Variant(name="Text2Token, data-driven", stages=("data_driven",), settings=steps, raw="raw, PromptEOL"),
    ]


def main() -> None:
    options = command_line(__doc__)
    title = "Pretext tasks of LLM2Comp"
    study = Study(
        "llm2comp_pretext",
        title=title,
        finding=FINDING,
        variants=variants(options.preset),
        options=options,
        presets={**PRESETS, "cpu": dataclasses.replace(PRESETS["cpu"], seeds=(0, 1, 2))},
    )
    study.run()
    ctkd, nll, rc = ((name, study.values(name)) for name in TASKS)
    where = "on the mean of tasks"
    study.conclude(verdict([better(where, ctkd, nll), better(where, nll, rc), steadier(where, ctkd, nll)]))


if __name__ == "__main__":
    run_quietly(main)
