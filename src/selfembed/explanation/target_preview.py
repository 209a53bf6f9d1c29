"""Token targets of a sample of texts, shown before anything is trained.

Shapes: N texts, S sum of all supports.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np

from selfembed.data.sampling import choose_texts
from selfembed.errors import InputError
from selfembed.ground.options import Range, check_value
from selfembed.ground.progress import Progress, silent
from selfembed.targets.token_targets import TokenTargets
from selfembed.training.plan import Plan

# Closed-class English words: a target full of them says little of its text.
FUNCTION_WORDS = frozenset(
    "a an the this that these those and or but nor so yet if then than as at by for from in into of off on onto out "
    "over to under up with without about after before between through during against i you he she it we they me him "
    "her us them my your his its our their who whom whose which what when where why how is am are was were be been "
    "being do does did have has had having will would shall should can could may might must not no any some all each "
    "every both either neither such there here also just only very too more most other s t re ve ll d m".split()
)
_SHOWN_TOKENS = 8


@dataclass(kw_only=True)
class TargetPreview:
    """The figures of the targets of one stage.

    Attributes:
        stage: The name of the stage.
        texts: The size of the sample; every figure but `empty` is over the texts with a target.
        empty: The share of texts without a target.
        entropy_nats: The median entropy of a target, in nats.
        effective_support: The median of exp(entropy): the number of equal tokens that a target is worth.
        support: The median number of tokens with weight.
        punctuation: The share of the weight on tokens without a letter or digit.
        function_words: The share of the weight on closed-class English words.
        commonest: The token that most often weighs most, and the share of texts in which it does.
        samples: Some texts with their heaviest tokens.
        warnings: Sentences on targets that teach little.
    """

    stage: str
    texts: int
    empty: float
    entropy_nats: float = 0.0
    effective_support: float = 0.0
    support: float = 0.0
    punctuation: float = 0.0
    function_words: float = 0.0
    commonest: tuple[str, float] = ("", 0.0)
    samples: list[tuple[str, list[tuple[str, float]]]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Returns the lines for a terminal."""
        lines = [f"{self.texts:,} texts, {self.empty:.1%} without a target"]
        if self.empty < 1:
            lines += [
                f"median entropy {self.entropy_nats:.2f} nats: worth {self.effective_support:.1f} equal tokens, "
                f"out of {self.support:.0f} with weight",
                f"weight on punctuation {self.punctuation:.1%}, on function words {self.function_words:.1%}",
                f"heaviest most often: {self.commonest[0]!r}, in {self.commonest[1]:.1%} of the texts",
            ]
        lines += [f"warning: {warning}" for warning in self.warnings]
        for text, tokens in self.samples:
            shown = text if len(text) <= 160 else text[:160] + " ..."
            lines += ["", f"  {shown}", "    " + ("  ".join(f"{t!r} {w:.3f}" for t, w in tokens) or "(no target)")]
        return lines


def preview(plan: Plan, *, texts: int = 500, show: int = 5, progress: Progress = silent) -> list[TargetPreview]:
    """Builds the targets of a seeded sample for every stage of a plan that has token targets.

    Targets that training makes in the step are shown as they are made beforehand.

    Args:
        plan: The plan of a run.
        texts: The size of the sample.
        show: The number of texts that are shown with their heaviest tokens.
        progress: Is told how far the work is.

    Returns:
        The figures of each stage that has token targets.

    Raises:
        InputError: `texts` is below 1 or `show` below 0, or no stage has token targets.
    """
    check_value("texts", texts, Annotated[int, Range(least=1)])
    check_value("show", show, Annotated[int, Range(least=0)])
    sample = list(choose_texts(plan.corpus.texts(), texts, seed=plan.seed)["text"])
    views = []
    for name, stage in plan.recipe.stages.items():
        material = plan.material(max_length=stage.max_length, budget=stage.budget, texts=sample, progress=progress)
        targets = stage.objective.targets(material)
        if targets is not None:
            views.append(view_of(name, targets, sample, plan.backbone.tokenizer, show))
    if not views:
        raise InputError(
            f"recipe {plan.recipe.name}: none of its stages ({', '.join(plan.recipe.stages)}) has token targets to "
            "show; expected a recipe with some; choose one such as text2token"
        )
    return views


def view_of(stage: str, targets: TokenTargets, texts: list[str], tokenizer: Any, show: int) -> TargetPreview:
    """Measures one stage's targets, and picks samples and warnings."""
    filled_N = targets.support_N > 0
    view = TargetPreview(stage=stage, texts=len(targets), empty=float(1 - filled_N.mean()))
    view.samples = [
        (texts[i], [(tokenizer.decode([int(t)]), float(w)) for t, w in heaviest(targets, i)])
        for i in range(show)
        if i < len(texts)
    ]
    if not filled_N.any():
        view.warnings.append("no text has a target: nothing can be trained on this")
        return view
    words = {int(i): tokenizer.decode([int(i)]).strip() for i in np.unique(targets.ids_S)}
    view.entropy_nats = float(np.median(targets.entropy_N[filled_N]))
    view.effective_support = float(np.median(targets.effective_support_N[filled_N]))
    view.support = float(np.median(targets.support_N[filled_N]))
    total = float(targets.weights_S.sum())
    view.punctuation = weight_where(targets, {i for i, word in words.items() if not readable(word)}) / total
    view.function_words = (
        weight_where(targets, {i for i, w in words.items() if w.casefold() in FUNCTION_WORDS}) / total
    )
    tops = Counter(int(targets.row(int(i))[0][0]) for i in np.flatnonzero(filled_N))
    top, count = tops.most_common(1)[0]
    view.commonest = (tokenizer.decode([top]), count / int(filled_N.sum()))
    view.warnings = warnings_of(view, targets)
    return view


def warnings_of(view: TargetPreview, targets: TokenTargets) -> list[str]:
    """Warns in plain words of targets that teach little."""
    warnings = []
    if view.entropy_nats > 0.9 * np.log(targets.vocab_size):
        warnings.append(
            "looks uniform over the vocabulary: it says next to nothing of its text (form 'proportional'?)"
        )
    elif view.support >= 20 and view.effective_support > 0.98 * view.support:
        warnings.append("looks uniform over its support: every token of it weighs the same")
    if view.effective_support < 1.5:
        warnings.append("looks one-hot: a single token carries nearly all weight (a higher temperature spreads it)")
    if view.commonest[1] > 0.2 and view.texts >= 20:
        warnings.append(f"looks generic: {view.commonest[0]!r} weighs most in {view.commonest[1]:.0%} of the texts")
    if view.punctuation + view.function_words > 0.3:
        warnings.append("looks generic: over 30 % of the weight is on punctuation and function words")
    if view.empty > 0.05:
        warnings.append(f"{view.empty:.0%} of the texts have no target and would be left out")
    return warnings


def heaviest(targets: TokenTargets, row: int) -> list[tuple[int, float]]:
    """Returns the heaviest tokens of one text, with their weights."""
    ids, weights = targets.row(row)
    return list(zip(ids[:_SHOWN_TOKENS], weights[:_SHOWN_TOKENS], strict=True))


def weight_where(targets: TokenTargets, ids: set[int]) -> float:
    """Sums the weight on some tokens over all texts."""
    return float(targets.weights_S[np.isin(targets.ids_S, sorted(ids))].sum())


def readable(word: str) -> bool:
    """Tells whether a word has a letter or digit."""
    return any(unicodedata.category(character)[0] in "LN" for character in word)
