"""How many directions embeddings use after each of LLM2Comp's pretext tasks, and whether its memory tokens differ.

    python studies/llm2comp_spectrum.py --preset cpu

Writes ``llm2comp_spectrum_<preset>.json``, ``.md`` and ``.svg``. Read are Wikipedia passages of articles that are not
trained on; the budgets are those of llm2comp_pretext.py. Singular values are of the unit embeddings, centred.

Shapes: N texts, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from findings import Finding, larger, verdict
from llm2comp_pretext import RECIPE, TASKS
from llm2comp_pretext import variants as pretext_variants
from sentence_transformers import SentenceTransformer
from variants import Study, Variant, command_line, held_out, run_quietly

from selfembed.encoding.encode import encode
from selfembed.encoding.token_budget import TokenBudget
from selfembed.explanation.memory_tokens import COPIES, correlate_memory, memory_tokens_of, read_memory
from selfembed.explanation.spectrum import measure_spectrum
from selfembed.training.plan import Plan

FINDING = (
    "distillation (CTKD) spreads its embeddings over more directions than the continuation's likelihood (CT-NLL) and "
    "reconstruction (RC) do, and its memory tokens stay apart (cosines of 0.04 to 0.79), while those of a collapsed "
    "CT-NLL are copies of one another (seven of eight at 1.00)."
)
TEXTS = {"paper": 1_000, "cpu": 500, "smoke": 12}
MEASURES = {
    "effective rank": "exp of entropy",
    "participation ratio": "of variances",
    "memory tokens alike": "mean cosine of two",
    "most alike": "largest cosine of two",
    "memory tokens that differ": f"cosine below {COPIES:g}",
}


def variants(preset: str) -> list[Variant]:
    """The untrained reading and the three tasks."""
    return [variant for variant in pretext_variants(preset) if variant.recipe == RECIPE]


def shape_of(texts: list[str]) -> Callable[[SentenceTransformer, Plan], dict[str, Any]]:
    """What a study looks at in every embedder: the spectrum of these texts, and how alike its memory tokens are."""

    def look(embedder: SentenceTransformer, plan: Plan) -> dict[str, Any]:
        if not memory_tokens_of(embedder):
            vectors_ND = encode(embedder, texts, budget=TokenBudget(batch_size=32))  # as the recorded results were
            return shape(torch.from_numpy(vectors_ND)) | {"memory_correlation": None}
        read = read_memory(embedder, texts)
        correlation = correlate_memory(read.states_NKD)
        found = shape(read.embedding_ND)
        found["measures"] |= {
            "memory tokens alike": round(correlation.mean, 4),
            "most alike": round(correlation.largest, 4),
            "memory tokens that differ": correlation.different,
        }
        matrix = [[round(value, 4) for value in row] for row in correlation.matrix]
        return found | {"memory_correlation": {**correlation.to_dict(), "matrix": matrix}}

    return look


def shape(embedding_ND: torch.Tensor) -> dict[str, Any]:
    """Singular values, and what they come to; a single memory token differs from all others."""
    spectrum = measure_spectrum(embedding_ND.float().cpu().numpy())
    measures = {
        "effective rank": round(spectrum.effective_rank, 2),
        "participation ratio": round(spectrum.participation_ratio, 2),
        "memory tokens that differ": 1,
    }
    return {"measures": measures, "singular_values": [float(f"{value:.4g}") for value in spectrum.singular_values]}


def main() -> None:
    options = command_line(__doc__)
    texts = held_out(options.data, TEXTS[options.preset])
    study = Study(
        "llm2comp_spectrum",
        title="The shape of the space after LLM2Comp's pretext tasks",
        finding=FINDING,
        variants=variants(options.preset),
        options=options,
        tasks=[],
        measures=MEASURES,
        look=shape_of(texts),
    )
    study.run()
    study.conclude(verdict(judged(study)), explanation(len(texts)), draw=picture)


def judged(study: Study) -> list[Finding]:
    """The claim, piece by piece."""
    by_measure = {measure: {name: study.values(name, measure) for name in TASKS} for measure in MEASURES}
    rank, alike = by_measure["effective rank"], by_measure["memory tokens alike"]
    findings = [
        larger("in effective rank", ("CTKD", rank["CTKD"]), (rival, rank[rival])) for rival in ("CT-NLL", "RC")
    ]
    findings.append(
        larger("in the mean cosine of memory tokens", *((name, alike[name]) for name in ("CT-NLL", "CTKD")))
    )
    differ = {name: min(by_measure["memory tokens that differ"][name]) for name in TASKS}
    told = ", ".join(f"{name} {count}" for name, count in differ.items())
    collapsed = differ["CTKD"] > differ["CT-NLL"]
    return [*findings, Finding(holds=collapsed, words=f"of 8 memory tokens there differ at the least {told}")]


def explanation(texts: int) -> str:
    return (
        f"Of {texts:,} Wikipedia passages of articles that are not trained on, which span at most {texts - 1:,} "
        "directions. The effective rank is the exponential of the entropy of the singular values, the participation "
        "ratio (sum of variances)² / sum of their squares; both of unit embeddings, centred. The cosine of two memory "
        f"tokens is the mean over the texts; from {COPIES:g} on they are called copies. The picture shows the first "
        "seed.\n"
    )


def picture(results: dict[str, Any], file: Path) -> None:
    """The singular values of all variants, and the memory tokens' cosines of each; of the first seed."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    first = {name: next(iter(found["runs"].values())) for name, found in results["variants"].items() if found["runs"]}
    with matplotlib.rc_context({"svg.hashsalt": file.stem, "svg.fonttype": "path", "font.size": 9}):
        figure, axes = pyplot.subplots(1, 1 + len(first), figsize=(3.6 + 2.6 * len(first), 3), layout="constrained")
        for (name, run), dashes in zip(first.items(), (":", "-", "--", "-."), strict=False):
            shown = [value for value in run["singular_values"] if value > 0]
            axes[0].loglog(range(1, len(shown) + 1), shown, dashes, label=name, color="0.4" if dashes == ":" else None)
        axes[0].set_title("singular values, strongest first")
        axes[0].legend(frameon=False, fontsize=7)
        for axis, (name, run) in zip(axes[1:], first.items(), strict=True):
            matrix = run["memory_correlation"]["matrix"]
            axis.imshow(
                matrix, vmin=-1, vmax=1, cmap="RdBu_r", extent=(0.5, len(matrix) + 0.5, len(matrix) + 0.5, 0.5)
            )
            for row, values in enumerate(matrix, 1):
                for column, value in enumerate(values, 1):
                    colour = "white" if abs(value) > 0.6 else "black"
                    axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=5.5, color=colour)
            axis.set_title(name)
        figure.suptitle(
            f"{results['title']}, preset {results['settings']['preset']}: spectra; cosines of memory tokens"
        )
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    run_quietly(main)
