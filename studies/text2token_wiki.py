"""Text2Token on English Wikipedia with the embedded backbone: raw, after each of its stages, and after its baseline.

    python studies/text2token_wiki.py --preset cpu

Writes ``text2token_wiki_<preset>.json``, ``.md`` and ``.svg``. Only preset paper evaluates whole tasks; budget trains
as much, on one seed, and evaluates what cpu does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from evaluation import Sizes
from findings import better, verdict
from variants import PRESETS as SHARED
from variants import Preset, Study, Variant, command_line, run_quietly

FINDING = (
    "the two stages make an embedder of a raw backbone, better than the baseline of bags of tokens (EBAE) and than "
    "LLM2Vec without labels (55.25 against 53.29 on MTEB with Llama-3, Table 2); what the second adds to the first is "
    "not printed."
)
RAW, BAG, FIRST, BOTH = "raw", "bag of tokens", "stage I", "stages I + II"
WHOLE_FIRST, WHOLE_BOTH = f"{FIRST}, targets of whole texts", f"{BOTH}, targets of whole texts"
WHOLE = {"data_driven.whole_text": True}

# Those of recipe text2token-small, chosen on Python docs; not tuned on these tasks.
ON_A_CPU: dict[str, Any] = {
    "data_driven.learning_rate": 2e-4,
    "model_derived.learning_rate": 1e-4,
    "variants": "merge",
    "common": "online",
    "temperature": 1e-2,
    "floor": 1e-3,
}

SAMPLED = Sizes(sts=500, sick=500, articles=500, newsgroups=500, banking_train=600, banking_test=500)

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
        sizes=SAMPLED,
        seeds=(0, 1, 2),
    ),
    "budget": dataclasses.replace(
        SHARED["paper"], settings={**SHARED["paper"].settings, **WHOLE}, sizes=SAMPLED, seeds=(0,)
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


def variants(settings: dict[str, Any]) -> list[Variant]:
    """The raw backbone, what it is after each stage, and after as many steps of the paper's baseline."""
    shared = ("batch_size", "micro_batch_size", "max_length", "embed_length", "learning_rate", "whole_text")
    named = {name.removeprefix("data_driven."): value for name, value in settings.items()}
    bag = {name: named[name] for name in (*shared, "steps") if name in named}
    both = ("data_driven", "model_derived")
    whole = [
        Variant(name=WHOLE_FIRST, stages=both[:1], settings=WHOLE, raw=RAW),
        Variant(name=WHOLE_BOTH, stages=both, settings=WHOLE, raw=RAW),
    ]
    return [
        Variant(name=RAW),
        Variant(name=FIRST, stages=both[:1], raw=RAW),
        Variant(name=BOTH, stages=both, raw=RAW),
        *(whole if WHOLE.items().isdisjoint(settings.items()) else []),
        Variant(name=BAG, recipe="bag-of-tokens", stages=("bag_of_tokens",), settings=bag, raw=RAW),
    ]


def main() -> None:
    options = command_line(__doc__, presets=PRESETS)
    study = Study(
        "text2token_wiki",
        title="Text2Token on Wikipedia",
        finding=FINDING,
        variants=variants(PRESETS[options.preset].settings),
        options=options,
        presets=PRESETS,
    )
    study.run()
    raw, first, both, bag = ((name, study.values(name)) for name in (RAW, FIRST, BOTH, BAG))
    pairs = [(both, raw), (both, first), (bag, raw), (both, bag)]
    if WHOLE_FIRST in study.results["variants"]:
        pairs.append((first, (WHOLE_FIRST, study.values(WHOLE_FIRST))))
    study.conclude(verdict([better("on the mean of tasks", *pair) for pair in pairs]))


if __name__ == "__main__":
    run_quietly(main)
