"""What LLM2Comp's memory tokens lose as the context grows that they stand for.

    python studies/llm2comp_context_length.py --preset cpu

Writes ``llm2comp_context_length_<preset>.json``, ``.md`` and ``.svg``. One embedder, trained by distillation (CTKD) on
the budget of llm2comp_pretext.py. Held-out Wikipedia articles (their passages joined) are cut after a context of so
many tokens; the raw decoder that reads the context teaches, and is held against itself reading in the context's place

- the memory tokens,
- nothing (the floor: all that the context tells is lost),
- the context's last words, as many as there are memory tokens,
- the context itself (0 but for rounding, unless the tokenizer writes no beginning-of-sequence token: then the teacher
  has none either, and this is what the one costs that stands before the memory).

Shapes: B texts of a batch, N texts, C tokens of a context, L of its continuation, K memory tokens, D hidden, P scored
positions, R resamples.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from findings import Finding, verdict
from llm2comp_pretext import BUDGETS, STAGE
from sentence_transformers import SentenceTransformer
from text2token_domains import read_articles
from torch import Tensor
from variants import Study, Variant, command_line, run_quietly

from selfembed.evaluation.bootstrap import percentile_interval
from selfembed.losses.compression import CompressionLoss
from selfembed.losses.divergence import chunked_kl
from selfembed.model.modes import decoder_of
from selfembed.training.plan import Plan

FINDING = (
    "a fixed number of memory tokens loses a larger share of what a context tells, the longer the context is (ours to "
    "ask: the paper trains on contexts of up to 500 tokens and does not tell them apart)."
)
READ = ("memory", "nothing", "last words", "context")
BATCH = 8
RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What is measured.

    Args:
        contexts: tokens, from short to long.
        continuation: tokens.
        texts: all at least as long as the longest context and the continuation; at most so many.
    """

    contexts: tuple[int, ...]
    continuation: int
    texts: int

    @property
    def tokens(self) -> int:
        """Of a text."""
        return self.contexts[-1] + self.continuation


LENGTHS = {
    "paper": Lengths(contexts=(16, 32, 64, 128, 256, 384), continuation=32, texts=300),
    "cpu": Lengths(contexts=(16, 32, 64, 96, 128), continuation=32, texts=80),
    "smoke": Lengths(contexts=(8, 16, 24), continuation=4, texts=6),
}


def held_out_articles(data: Path) -> list[str]:
    """Articles that are not trained on, their passages joined."""
    return [" ".join(passages) for _, passages in read_articles(data / "wiki" / "passages_dev.parquet")]


def losses_by_context(texts: Sequence[str], lengths: Lengths) -> Callable[[SentenceTransformer, Plan], dict[str, Any]]:
    """What the study looks at in an embedder."""

    def look(embedder: SentenceTransformer, plan: Plan) -> dict[str, Any]:
        tokenizer, device = plan.backbone.tokenizer, embedder.device
        ids = (tokenizer(text, truncation=True, max_length=lengths.tokens)["input_ids"] for text in texts)
        rows = [torch.tensor(row, device=device) for row in ids if len(row) == lengths.tokens][: lengths.texts]
        options = plan.recipe.stages[STAGE].objective
        loss = CompressionLoss(embedder, plan.backbone.head().to(device), options, bos_id=tokenizer.bos_token_id)
        by_context: dict[str, dict[str, list[float]]] = {}
        for context in lengths.contexts:
            parts = [
                divergences(loss, rows[start : start + BATCH], context, lengths.continuation)
                for start in range(0, len(rows), BATCH)
            ]
            kl_N = {name: torch.cat([part[name] for part in parts]) for name in READ}
            by_context[str(context)] = {name: [round(kl, 4) for kl in kl_N[name].tolist()] for name in READ}
        measures = {f"{context} tokens": round(share_lost(found), 4) for context, found in by_context.items()}
        return {"measures": measures, "texts_measured": len(rows), "kl_by_context": by_context}

    return look


@torch.no_grad()
def divergences(loss: CompressionLoss, texts: Sequence[Tensor], context: int, continuation: int) -> dict[str, Tensor]:
    """Forward KL(teacher || decoder) in nats for each of ``READ``, as CTKD has it.

    Args:
        loss: holds embedder and decoder layer.
        texts: ids, at least ``context`` + ``continuation`` of each.
        context: tokens, C.
        continuation: tokens, L.

    Returns:
        kl_B for each, float32: the mean over L + 1 positions.
    """
    contexts = [ids_T[:context] for ids_T in texts]
    rest = [ids_T[context : context + continuation] for ids_T in texts]
    memory_BKD = loss.compress(contexts)
    own_BC = torch.stack([ids_C[int(ids_C[0] == loss.bos_id) :] for ids_C in contexts])
    words_BCD = decoder_of(loss.model).get_input_embeddings()(own_BC)
    read = {
        "memory": memory_BKD,
        "nothing": words_BCD[:, :0],
        "last words": words_BCD[:, -memory_BKD.shape[1] :],
        "context": words_BCD,
    }
    teacher_PD = loss.teach([ids_T[: context + continuation] for ids_T in texts], [context] * len(texts))
    kl_B = {}
    for name, states_BKD in read.items():
        student_PD = loss.decode(states_BKD, rest, positions=[continuation + 1] * len(texts))
        kl_B[name] = chunked_kl(student_PD, teacher_PD, loss.head).view(len(texts), -1).mean(1)
    return kl_B


def share_lost(kl: dict[str, list[float]]) -> float:
    """Of what the context tells, the divergence of reading nothing, the part that the memory tokens lose."""
    return statistics.fmean(kl["memory"]) / statistics.fmean(kl["nothing"])


def growth(runs: Sequence[dict[str, Any]], shortest: int, longest: int) -> Finding:
    """Whether the share lost is larger for the longest context: paired bootstrap over texts, seeds averaged."""
    kl_CRN = {
        context: np.array([
            np.mean([run["kl_by_context"][str(context)][name] for run in runs], 0) for name in ("memory", "nothing")
        ])
        for context in (shortest, longest)
    }  # fmt: skip
    texts = kl_CRN[shortest].shape[1]
    draws_RN = np.random.default_rng(0).integers(texts, size=(RESAMPLES, texts))
    shares = {context: np.divide(*kl[:, draws_RN].mean(-1)) for context, kl in kl_CRN.items()}
    low, high = percentile_interval(shares[longest] - shares[shortest])
    short, long = (float(np.divide(*kl_CRN[context].mean(1))) for context in (shortest, longest))
    holds = True if low > 0 else False if high < 0 else None
    words = (
        f"of what {shortest} tokens tell {short:.0%} is lost, of what {longest} tell {long:.0%}: a change of "
        f"{100 * (long - short):+.1f} points (95% interval over {texts} texts {100 * low:+.1f} to {100 * high:+.1f})"
    )
    return Finding(holds=holds, words=words)


def means(runs: Sequence[dict[str, Any]], context: int) -> dict[str, float]:
    """Nats, over texts and seeds."""
    return {
        name: statistics.fmean(statistics.fmean(run["kl_by_context"][str(context)][name]) for run in runs)
        for name in READ
    }


def section(runs: Sequence[dict[str, Any]], lengths: Lengths, longest_trained: int) -> str:
    """The divergences as Markdown."""
    lines = [
        "Columns above: the share of the divergence without any context that is left with the memory tokens. Below: "
        f"KL(teacher || decoder) in nats, mean over {lengths.continuation + 1} positions and "
        f"{runs[0]['texts_measured']} held-out texts, by what the decoder reads in the context's place.",
        "",
        "| context, tokens | memory tokens | nothing | last words, as many | the context itself |",
        "|---|---|---|---|---|",
    ]
    for context in lengths.contexts:
        found = means(runs, context)
        lines.append(f"| {context} | " + " | ".join(f"{found[name]:.3f}" for name in READ) + " |")
    lines += [
        "",
        f"Trained on contexts of at most {longest_trained} tokens, within single passages of 100 words: longer ones "
        "are new to the embedder. The texts are the same at every length; their continuations are what follows.",
    ]
    return "\n".join(lines) + "\n"


def picture(results: dict[str, Any], file: Path) -> None:
    """The four divergences against the length of the context."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    (variant,) = results["variants"].values()
    runs = list(variant["runs"].values())
    contexts = [int(context) for context in runs[0]["kl_by_context"]]
    with matplotlib.rc_context({"svg.hashsalt": file.stem, "svg.fonttype": "path", "font.size": 9}):
        figure, axis = pyplot.subplots(figsize=(6.2, 3.4), layout="constrained")
        for name, style in zip(READ, ("o-", "s--", "^-.", "d:"), strict=True):
            axis.plot(contexts, [means(runs, context)[name] for context in contexts], style, label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(contexts, contexts)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("tokens of the context")
        axis.set_ylabel("KL from the decoder on the context, nats")
        figure.legend(title="read in its place", frameon=False, loc="outside right center")
        axis.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{results['title']}, preset {results['settings']['preset']}", fontsize=9)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    options = command_line(__doc__)
    lengths, budget = LENGTHS[options.preset], BUDGETS[options.preset]
    variant = Variant(
        name="CTKD", recipe="llm2comp-unsup", stages=(STAGE,), settings={**budget, "task": "distillation"}
    )
    study = Study(
        "llm2comp_context_length",
        title="What memory tokens lose of longer contexts (LLM2Comp)",
        finding=FINDING,
        variants=[variant],
        options=options,
        tasks=[],
        measures={f"{context} tokens": "share lost" for context in lengths.contexts},
        look=losses_by_context(held_out_articles(options.data), lengths),
    )
    study.run()
    runs = list(study.results["variants"]["CTKD"]["runs"].values())
    recipe = study.plan_of(variant, 0).recipe
    stage = recipe.stages[STAGE]
    longest = stage.max_length - recipe.embedder.memory_tokens - stage.objective.min_continuation
    found = growth(runs, lengths.contexts[0], lengths.contexts[-1])
    study.conclude(verdict([found]), section(runs, lengths, longest), draw=picture)


if __name__ == "__main__":
    run_quietly(main)
