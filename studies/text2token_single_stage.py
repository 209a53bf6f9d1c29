"""Text2Token Fig. 4: each stage by itself, with either pooling and either attention.

    python studies/text2token_single_stage.py --preset cpu

Writes ``text2token_single_stage_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are
subsamples. Model-derived targets are the paper's (div, temperature 1e-4, no floor).
"""

from __future__ import annotations

from itertools import product

from findings import better, verdict
from variants import Study, Variant, command_line, run_quietly

FINDING = (
    "a stage by itself: data-driven targets are best with last-token pooling, model-derived targets with mean "
    "pooling; Llama-3 prefers causal attention, Mistral bidirectional (Fig. 4)."
)
STAGES = {"data-driven": "data_driven", "model-derived": "model_derived"}
ATTENTIONS = ("causal", "bidirectional")
READINGS = list(product(("last", "mean"), ATTENTIONS))


def variants() -> list[Variant]:
    """The raw backbone read in four ways, then each stage on each."""
    rows = [
        Variant(name=f"raw, {pooling}, {attention}", settings={"pooling": pooling, "attention": attention})
        for pooling, attention in READINGS
    ]
    for (pooling, attention), (words, stage) in product(READINGS, STAGES.items()):
        reading = f"{pooling}, {attention}"
        settings = {"pooling": pooling, "attention": attention}
        rows.append(Variant(name=f"{words}, {reading}", stages=(stage,), settings=settings, raw=f"raw, {reading}"))
    return rows


def main() -> None:
    options = command_line(__doc__)
    title = "Single stages, pooling and attention (Text2Token Fig. 4)"
    study = Study("text2token_single_stage", title=title, finding=FINDING, variants=variants(), options=options)
    study.run()
    findings = []
    for pooling, attention in READINGS:
        rivals = [(words, study.values(f"{words}, {pooling}, {attention}")) for words in STAGES]
        first, second = rivals if pooling == "last" else reversed(rivals)
        findings.append(better(f"with {pooling} pooling and {attention} attention", first, second))
    attentions = [(f"{name} attention", study.values(f"data-driven, last, {name}")) for name in ATTENTIONS]
    findings.append(better("as for Llama-3", *attentions))
    study.conclude(verdict(findings))


if __name__ == "__main__":
    run_quietly(main)
