"""Text2Token Table 8: the three filters of model-derived targets, in scores and in words.

    python studies/text2token_filters.py --preset cpu

Writes ``text2token_filters_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are subsamples.
The stage by itself at the paper's temperature, 1e-4, without a floor. div, Q / (Q + Qc), and sub, log Q - log Qc, are
both increasing in Q / Qc and must rank tokens alike; that is checked on the targets.
"""

from __future__ import annotations

from typing import Any

import torch
from findings import Finding, better, verdict
from variants import Study, Variant, command_line, run_quietly, tell

from selfembed.data.sampling import choose_texts
from selfembed.model.embedder import build_embedder
from selfembed.objectives.model_derived import ModelDerived
from selfembed.targets.model_derived import CommonDistribution, raw_log_probabilities

FINDING = (
    "div is the filter chosen, over log and sub, and the three give different lists of top-10 tokens (Table 8); by "
    "the printed formulas the lists of div and sub cannot differ."
)
FILTERS = ("div", "log", "sub")
TEXTS = (
    "Marie Curie discovered polonium and radium and was the first woman to win a Nobel Prize.",
    "The volcano on the island erupted again, and ash closed the airport for three days.",
)
SAMPLES = {"paper": 10_000, "cpu": 1_000, "smoke": 16}  # texts the lists' common distribution is the mean of
JUDGED = 200  # of these texts are the lists of div and sub compared on
TOP = 10


def main() -> None:
    options = command_line(__doc__)
    variants = [Variant(name="raw")]
    for name in FILTERS:
        settings = {"model_derived.filter": name}
        variants.append(Variant(name=name, stages=("model_derived",), settings=settings, raw="raw"))
    title = "The filters of model-derived targets (Text2Token Table 8)"
    study = Study("text2token_filters", title=title, finding=FINDING, variants=variants, options=options)
    study.run()
    tokens = study.results.get("tokens") or top_tokens(study, SAMPLES[options.preset])
    study.results["tokens"] = tokens
    div = ("div", study.values("div"))
    findings = [better("in scores", div, (name, study.values(name))) for name in ("log", "sub")]
    words = f"div and sub give the same top-{TOP} list, in the same order, for {tokens['same']} of {tokens['judged']}"
    findings.append(Finding(holds=tokens["same"] < tokens["judged"], words=f"{words} texts"))
    study.conclude(verdict(findings), section(tokens))


def top_tokens(study: Study, count: int) -> dict[str, Any]:
    """The heaviest tokens of every filter's target for TEXTS, and how often div and sub agree.

    Shapes: B texts, V vocabulary, K kept tokens.
    """
    plan = study.plan
    length = plan.recipe.stages["model_derived"].max_length
    embedder = build_embedder(
        plan.backbone, plan.recipe.embedder, max_length=length, dtype=plan.dtype, device=plan.device
    )
    head, common, kept = plan.backbone.head().to(plan.device), CommonDistribution(), {}
    sample = list(choose_texts(plan.corpus.texts(), count, seed=0)["text"])
    for rows, log_q_BV in raw_log_probabilities(embedder, head, sample, progress=tell, task="common distribution"):
        common.add(log_q_BV)
        kept |= {row: log_q_V.cpu().clone() for row, log_q_V in zip(rows, log_q_BV, strict=True) if row < JUDGED}
    log_common_V, judged_BV = common.log_V.cpu(), torch.stack([kept[row] for row in sorted(kept)])
    shown_BV = torch.cat(
        [log_q_1V.cpu() for text in TEXTS for _, log_q_1V in raw_log_probabilities(embedder, head, [text])]
    )
    lists = {name: heaviest(name, shown_BV, log_common_V).tolist() for name in FILTERS}
    div_BK, sub_BK = (heaviest(name, judged_BV, log_common_V) for name in ("div", "sub"))
    decode = plan.backbone.tokenizer.decode
    return {
        "common_texts": common.texts,
        "judged": len(judged_BV),
        "same": int((div_BK == sub_BK).all(-1).sum()),
        "texts": {
            text: {name: [decode([token]) for token in rows[row]] for name, rows in lists.items()}
            for row, text in enumerate(TEXTS)
        },
    }


def heaviest(name: str, log_q_BV: torch.Tensor, log_common_V: torch.Tensor) -> torch.Tensor:
    """Token ids of a filter's targets, heaviest first, shape (B, TOP)."""
    return ModelDerived(filter=name, top_k=TOP).distribution(log_q_BV, log_common_V)[0]


def section(tokens: dict[str, Any]) -> str:
    """The lists as Markdown."""
    lines = ["", f"Top {TOP} tokens of the targets, common distribution over {tokens['common_texts']:,} texts:", ""]
    for text, lists in tokens["texts"].items():
        lines += [f"> {text}", ""]
        for name, words in lists.items():
            lines.append(f"- {name}: " + ", ".join(f"`{repr(word)[1:-1].replace('`', '')}`" for word in words))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    run_quietly(main)
