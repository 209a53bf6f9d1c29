"""How much the common distribution depends on how many texts it is the mean of, and on being estimated in the step.

    python studies/common_distribution.py

For model-derived targets (Text2Token Eqs. 18-19) of the embedded backbone on Wikipedia passages: the targets against a
common distribution over n texts, held against those against the one over all, for texts that are not among the n; and
the same for the running mean of the training batches (``common=online``), which each text is part of. Writes
``common_distribution.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_texts
from selfembed.ground.environment import environment
from selfembed.ground.files import write_json
from selfembed.model.backbone import EMBEDDED, best_dtype, load_backbone
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.objectives.model_derived import ModelDerived
from selfembed.targets.model_derived import CommonDistribution, raw_log_probabilities

OPTIONS = {
    "div, tau 1e-4": ModelDerived(),
    "div, tau 1e-2": ModelDerived(temperature=1e-2),
    "div, tau 1e-2, floor 1e-4": ModelDerived(temperature=1e-2, floor=1e-4),
    "log, tau 1e-2": ModelDerived(filter="log", temperature=1e-2),
}
SIZES = (8, 32, 100, 320, 1000)
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with wiki/")
    parser.add_argument("--texts", type=int, default=1000, help="that the reference is the mean of")
    parser.add_argument("--judged", type=int, default=100, help="further texts whose targets are compared")
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    arguments = parser.parse_args()
    backbone = load_backbone(EMBEDDED)
    corpus = Corpus(arguments.data / "wiki" / "passages.parquet", limit=20_000)
    count = arguments.texts + arguments.judged
    texts = list(choose_texts(corpus.texts(), count, seed=0)["text"])
    dtype = best_dtype("cpu")
    embedder = build_embedder(backbone, EmbedderConfig(), max_length=arguments.max_length, dtype=dtype, device="cpu")
    log_q_NV = log_probabilities(embedder, backbone.head(), texts)
    reference_NV, judged_NV = log_q_NV[: arguments.texts], log_q_NV[arguments.texts :]
    whole = mean_of([reference_NV])
    rows: list[dict[str, Any]] = []
    for name, options in OPTIONS.items():
        expected = dense(options, judged_NV, whole)
        for size in SIZES:
            found = dense(options, judged_NV, mean_of([reference_NV[:size]]))
            rows.append({"target": name, "common": f"{size} other texts", **agreement(expected, found)})
        for step in (1, 2, 5, 10, 30, 60):
            batches = [reference_NV[k * BATCH : (k + 1) * BATCH] for k in range(step)]
            own = batches[-1]
            if len(own) == BATCH:
                found = dense(options, own, mean_of(batches))
                told = agreement(dense(options, own, whole), found)
                rows.append({"target": name, "common": f"online, step {step} of batch {BATCH}", **told})
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {
        "texts": arguments.texts,
        "judged": arguments.judged,
        "max_length": arguments.max_length,
        "dtype": str(dtype).removeprefix("torch."),
    }
    file = arguments.out / "common_distribution.json"
    write_json(file, {"settings": settings, "environment": environment(), "rows": rows})
    file.with_suffix(".md").write_text(table(settings, rows))
    print(table(settings, rows))


def log_probabilities(embedder: Any, head: Any, texts: Sequence[str]) -> torch.Tensor:
    """Of the raw backbone, float32, shape (texts, vocabulary)."""
    found, done = {}, 0
    for rows, log_q_BV in raw_log_probabilities(embedder, head, texts):
        found |= zip(rows, log_q_BV, strict=True)
        done += len(rows)
        print(f"  {done}/{len(texts)}", file=sys.stderr, flush=True)
    return torch.stack([found[row] for row in range(len(texts))])


def mean_of(batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log of the common distribution of these texts."""
    common = CommonDistribution()
    for log_q_BV in batches:
        for part_BV in log_q_BV.split(BATCH):
            common.add(part_BV)
    return common.log_V


def dense(options: ModelDerived, log_q_BV: torch.Tensor, log_common_V: torch.Tensor) -> torch.Tensor:
    """Targets as rows over the vocabulary."""
    ids_BK, weights_BK = options.distribution(log_q_BV, log_common_V)
    return torch.zeros_like(log_q_BV).scatter(-1, ids_BK, weights_BK)


def agreement(expected_BV: torch.Tensor, found_BV: torch.Tensor) -> dict[str, float]:
    """Mean overlap of mass (1 - total variation), share of equal top tokens, and median effective supports."""
    overlap = torch.minimum(expected_BV, found_BV).sum(-1).mean().item()
    top = (expected_BV.argmax(-1) == found_BV.argmax(-1)).float().mean().item()
    return {
        "overlap": round(overlap, 3),
        "same_top_token": round(top, 3),
        "effective_support": effective_support(found_BV),
        "effective_support_with_all": effective_support(expected_BV),
    }


def effective_support(target_BV: torch.Tensor) -> float:
    entropy_B = torch.special.entr(target_BV).sum(-1).numpy()
    return round(float(np.median(np.exp(entropy_B))), 2)


def table(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "# The common distribution: how many texts, and online",
        "",
        f"Model-derived targets held against those with a common distribution over {settings['texts']:,} texts; "
        "overlap is 1 - total variation, effective support is exp(entropy), its median.",
        "",
        "| target | common distribution over | overlap | same top token | effective support | with all texts |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['target']} | {row['common']} | {row['overlap']:.2f} | {row['same_top_token']:.0%} "
        f"| {row['effective_support']:.1f} | {row['effective_support_with_all']:.1f} |"
        for row in rows
    ]
    lines += [
        "",
        f"Embedded backbone in {settings['dtype']}, PromptEOL, last token, Wikipedia passages cut to "
        f"{settings['max_length']} tokens. With *n other texts* the {settings['judged']} judged texts are not among "
        "them; *online*, the texts of the step's own batch are judged, which are part of the mean.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
