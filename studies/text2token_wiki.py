"""Text2Token on English Wikipedia with the embedded backbone: raw, after stage I, after stage II, over three seeds.

    python studies/text2token_wiki.py --preset cpu

Writes ``text2token_wiki_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are subsamples.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from evaluation import Sizes
from findings import better, verdict
from variants import PRESETS as SHARED
from variants import Preset, Study, Variant, command_line, run_quietly

FINDING = (
    "the two stages make an embedder of a raw backbone, better than LLM2Vec's without labels (55.25 against 53.29 on "
    "MTEB with Llama-3, Table 2); what the second adds to the first is not printed."
)
RAW, FIRST, BOTH = "raw", "stage I", "stages I + II"

# Those of recipe text2token-small, chosen on Python docs; not tuned on these tasks.
ON_A_CPU: dict[str, Any] = {
    "data_driven.learning_rate": 2e-4,
    "model_derived.learning_rate": 1e-4,
    "variants": "merge",
    "common": "online",
    "temperature": 1e-2,
    "floor": 1e-3,
}

PRESETS = {
    "paper": SHARED["paper"],
    "cpu": Preset(
        settings={
            "data_driven.steps": 40,
            "model_derived.steps": 20,
            "batch_size": 32,
            "max_length": 96,
            "embed_length": 128,
            **ON_A_CPU,
        },
        passages=20_000,
        sizes=Sizes(sts=500, sick=500, articles=500, newsgroups=500, banking_train=600, banking_test=500),
        seeds=(0, 1, 2),
    ),
    "smoke": dataclasses.replace(
        SHARED["smoke"],
        settings={
            "data_driven.steps": 2,
            "model_derived.steps": 1,
            "batch_size": 4,
            "max_length": 48,
            "embed_length": 64,
            **ON_A_CPU,
        },
    ),
}


def variants() -> list[Variant]:
    """The raw backbone, and what it is after each stage."""
    return [
        Variant(name=RAW),
        Variant(name=FIRST, stages=("data_driven",), raw=RAW),
        Variant(name=BOTH, stages=("data_driven", "model_derived"), raw=RAW),
    ]


def main() -> None:
    study = Study(
        "text2token_wiki",
        title="Text2Token on Wikipedia",
        finding=FINDING,
        variants=variants(),
        options=command_line(__doc__),
        presets=PRESETS,
    )
    study.run()
    raw, first, both = ((name, study.values(name)) for name in (RAW, FIRST, BOTH))
    study.conclude(verdict([better("on the mean of tasks", *pair) for pair in ((both, raw), (both, first))]))


if __name__ == "__main__":
    run_quietly(main)
