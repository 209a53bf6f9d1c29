"""Text2Token Table 3: the order of the two stages, with either pooling.

    python studies/text2token_stage_order.py --preset cpu

Writes ``text2token_stage_order_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are
subsamples. Attention is causal; model-derived targets are the paper's (div, temperature 1e-4, no floor), and always
the raw backbone's (Eq. 18).
"""

from __future__ import annotations

from findings import better, level, verdict
from variants import Study, Variant, command_line, run_quietly

FINDING = (
    "with Llama-3 and last pooling the order of the stages makes no difference (61.57 for I then II, 61.58 for II "
    "then I); with mean pooling I then II is better (54.35 against 47.79; Table 3)."
)
ORDERS = {"I then II": ("data_driven", "model_derived"), "II then I": ("model_derived", "data_driven")}
POOLINGS = ("last", "mean")


def variants() -> list[Variant]:
    """The raw backbone, then both orders, for either pooling."""
    rows = []
    for pooling in POOLINGS:
        raw = Variant(name=f"raw, {pooling}", settings={"pooling": pooling})
        rows.append(raw)
        for order, stages in ORDERS.items():
            row = Variant(name=f"{order}, {pooling}", stages=stages, settings={"pooling": pooling}, raw=raw.name)
            rows.append(row)
    return rows


def main() -> None:
    options = command_line(__doc__)
    title = "The order of the stages (Text2Token Table 3)"
    study = Study("text2token_stage_order", title=title, finding=FINDING, variants=variants(), options=options)
    study.run()
    last = {order: study.values(f"{order}, last") for order in ORDERS}
    mean = [(order, study.values(f"{order}, mean")) for order in ORDERS]
    study.conclude(verdict([level("with last pooling", last), better("with mean pooling", *mean)]))


if __name__ == "__main__":
    run_quietly(main)
