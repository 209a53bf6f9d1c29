"""A plan: everything a run depends on, resolved before anything is computed."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from selfembed.data.corpus import Corpus
from selfembed.data.pairs import Examples, instructed, read_examples, read_sets
from selfembed.data.sampling import choose_texts
from selfembed.errors import InputError
from selfembed.ground.hashing import content_hash
from selfembed.ground.options import require_choice
from selfembed.model.backbone import EMBEDDED, Backbone, LMHead, best_dtype, load_backbone
from selfembed.model.device import choose_device
from selfembed.model.embedder import build_embedder, fitting_length
from selfembed.model.ready_embedder import ReadyEmbedder, is_ready, load_ready
from selfembed.model.stored_weights import STORED_DTYPES
from selfembed.objectives.objective import Material
from selfembed.recipes import RECIPES, Recipe, find_recipe, override
from selfembed.recipes.recipe import check_looks, with_calibration
from selfembed.targets.tagger import Tagger, load_tagger, require_language


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Holds everything a run depends on, resolved before anything is computed.

    Args:
        backbone: The language model, or the transformer of the ready embedder.
        corpus: All texts.
        recipe: The stages and their numbers.
        seed: Seed of the choice of texts, the adapter's start, dropout and order.
        dtype: Type of the frozen weights.
        device: Device that is trained on.
        tagger: The tagger of parts of speech; None where no stage needs one.
        pairs: The sets of labelled examples to train on.
        dev: The set of labelled examples that decides when to stop; None trains to the end.
        language: Codes of the texts' languages, for the model card; empty where they are not known.
        saved_dtype: Dtype of the finished folder's weights on disk.
        ready: The ready embedder that is adapted; None where a language model becomes an embedder.
    """

    backbone: Backbone
    corpus: Corpus
    recipe: Recipe
    seed: int
    dtype: torch.dtype
    device: str
    tagger: Tagger | None
    pairs: tuple[Examples, ...] = ()
    dev: Examples | None = None
    language: tuple[str, ...] = ()
    saved_dtype: str = "auto"
    ready: ReadyEmbedder | None = None

    @property
    def tagger_name(self) -> str:
        """Names the tagger, or `"none"`."""
        return self.tagger.name if self.tagger else "none"

    @property
    def key(self) -> str:
        """Hashes the content: two plans with the same key give the same weights on the same machine."""
        decided = (self.recipe.to_dict(), self.seed, str(self.dtype), self.device, self.tagger_name)
        model = self.ready.fingerprint if self.ready else [self.backbone.fingerprint, self.backbone.tokenizer_key]
        return content_hash(model, self.corpus.fingerprint, *decided, *self._labelled().values())

    @property
    def model_fingerprint(self) -> str:
        """Content hash of the model that is trained."""
        return self.ready.fingerprint if self.ready else self.backbone.fingerprint

    def untrained(
        self, weights: Backbone | None = None, *, max_length: int = 512, seed: int = 0
    ) -> SentenceTransformer:
        """Builds the embedder before any training: the language model as the recipe reads it, or the ready embedder.

        Args:
            weights: Transformer with other weights, as earlier stages left them; None takes the plan's own.
            max_length: Largest number of tokens of an input.
            seed: Seed for the start of memory vectors.
        """
        if self.ready is None:
            assert self.recipe.embedder is not None
            return build_embedder(
                weights or self.backbone,
                self.recipe.embedder,
                max_length=max_length,
                dtype=self.dtype,
                device=self.device,
                seed=seed,
            )
        embedder = self.ready.load(dtype=self.dtype, device=self.device, weights=weights, dropout=False)
        embedder.max_seq_length = self.fitting_length(max_length)
        return embedder.requires_grad_(False)

    def fitting_length(self, max_length: int) -> int:
        """Gives `max_length`, or as many tokens as the embedder can read.

        Raises:
            InputError: The prompt leaves no room for text.
        """
        if self.ready is None:
            assert self.recipe.embedder is not None
            return fitting_length(self.backbone, self.recipe.embedder, max_length)
        return min(max_length, self.ready.max_length)

    @property
    def embed_length(self) -> int:
        """Largest number of tokens of an input of the finished embedder: a ready one's own, or the recipe's."""
        return self.ready.max_length if self.ready else self.fitting_length(self.recipe.embed_length)

    @property
    def memory_tokens(self) -> int:
        """Number of memory tokens behind every text."""
        return self.recipe.embedder.memory_tokens if self.recipe.embedder else 0

    def _labelled(self) -> dict[str, Any]:
        return {
            "pairs": [examples.to_dict() for examples in self.pairs] or None,
            "dev": self.dev.to_dict() if self.dev else None,
        }

    def material(self, *, max_length: int, **given: Any) -> Material:
        """Collects what an objective of this plan works with.

        Args:
            max_length: Largest number of tokens of an input; it ends where the embedder has no positions.
            **given: The fields of :class:`Material` that a plan does not decide.
        """

        def head() -> LMHead:
            assert self.ready is None, "its objectives need no decoder"
            return self.backbone.head().to(self.device)

        decided: dict[str, Any] = {
            "backbone": self.backbone,
            "reading": self.recipe.embedder,
            "make_embedder": lambda: self.untrained(max_length=max_length),
            "make_head": head,
            "corpus": self.corpus,
            "pairs": self.pairs,
            "dev": self.dev,
            "tagger": self.tagger,
            "statistics_texts": self.recipe.statistics_texts,
            "max_length": self.fitting_length(max_length),
            "seed": self.seed,
        }
        return Material(**{**decided, **given})

    @property
    def datasets(self) -> list[str]:
        """Lists the ids of the data sets on the hub that texts and pairs are read from, each once."""
        of_pairs = [one.hub_id for one in (*self.pairs, self.dev) if one is not None and one.hub_id is not None]
        return list(dict.fromkeys([*self.corpus.hub_ids, *of_pairs]))

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values, for the record."""
        return {
            "model": self.backbone.name,
            "model_fingerprint": self.model_fingerprint,
            "corpus": self.corpus.name,
            "corpus_fingerprint": self.corpus.fingerprint,
            "corpus_report": dataclasses.asdict(self.corpus.report),
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device,
            "tagger": self.tagger_name,
            **self._labelled(),
            "datasets": self.datasets or None,
            "language": list(self.language) or None,
        }


def make_plan(
    model: str | Path = EMBEDDED,
    corpus: Any = None,
    recipe: str | Recipe | None = None,
    *,
    pairs: Any = None,
    dev: Any = None,
    instructions: Mapping[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    tagger: str = "auto",
    trust_remote_code: bool = False,
    language: str | Sequence[str] | None = None,
    saved_dtype: str = "auto",
    calibrate: bool | None = None,
) -> Plan:
    """Finds the backbone, reads the corpus and resolves the recipe.

    For the arguments see :func:`selfembed.training.run.train`.

    Raises:
        InputError: One of the arguments cannot be used.
    """
    device = choose_device(device)
    require_choice("dtype", dtype, ("auto", "float32", "bfloat16"))
    require_choice("saved_dtype", saved_dtype, STORED_DTYPES)
    languages = _language_codes(language)
    recipe = default_recipe(model) if recipe is None else recipe
    resolved = override(recipe if isinstance(recipe, Recipe) else find_recipe(recipe), settings or {})
    resolved = with_calibration(resolved, calibrate)
    check_looks(resolved, dev=dev is not None)
    sets, dev_set = read_pairs(resolved, pairs, dev, instructions, seed=seed)
    ready = load_ready(model, trust_remote_code=trust_remote_code) if is_ready(model) else None
    backbone = ready.transformer if ready else load_backbone(model, trust_remote_code=trust_remote_code)
    check_stages(resolved, backbone, ready)
    for length in (*(stage.max_length for stage in resolved.stages.values()), resolved.embed_length):
        if resolved.embedder is not None:
            fitting_length(backbone, resolved.embedder, length)
    needs_tagger = any(stage.objective.needs_tagger for stage in resolved.stages.values())
    found_tagger = load_tagger(tagger) if needs_tagger else None
    corpus = find_corpus(corpus, sets)
    texts = corpus.texts()
    if found_tagger:
        require_language(found_tagger, choose_texts(texts, 200, seed=seed)["text"])
        read = getattr(found_tagger, "language", "xx")
        languages = languages or (() if read == "xx" else (read,))
    return Plan(
        backbone=backbone,
        corpus=corpus,
        recipe=resolved,
        seed=seed,
        dtype=best_dtype(device) if dtype == "auto" else getattr(torch, dtype),
        device=device,
        tagger=found_tagger,
        pairs=sets,
        dev=dev_set,
        language=languages,
        saved_dtype=saved_dtype,
        ready=ready,
    )


def _language_codes(language: str | Sequence[str] | None) -> tuple[str, ...]:
    """Checks the codes that the hub knows languages by.

    Raises:
        InputError: One is no such code.
    """
    codes = () if language is None else (language,) if isinstance(language, str) else tuple(language)
    for code in codes:
        if not isinstance(code, str) or not (re.fullmatch("[a-z]{2,3}", code) or code in ("code", "multilingual")):
            raise InputError(
                f"language {code!r}: expected the two or three letters of ISO 639, as in 'en', or 'multilingual' or "
                "'code'; correct it, or leave it out"
            )
    return codes


def default_recipe(model: str | Path) -> str:
    """Names the recipe that a model is trained by where none is given: `"adapt"` for a ready embedder.

    Raises:
        InputError: There is no such model.
    """
    return "adapt" if is_ready(model) else "selfembed"


def check_stages(recipe: Recipe, backbone: Backbone, ready: ReadyEmbedder | None = None) -> None:
    """Refuses a recipe that is not for this kind of model, or has a stage that cannot train its embedder.

    Raises:
        InputError: It is not, or a stage cannot be trained; the message names it.
    """
    reading = recipe.embedder
    if reading is not None and ready is not None:
        raise InputError(
            f"recipe {recipe.name}: makes an embedder of a language model, and {ready.name} is one already, with its "
            "own pooling and prompts; expected a recipe that keeps them; use `recipe='adapt'`"
        )
    if reading is None:
        if ready is None:
            raise InputError(
                f"recipe {recipe.name}: adapts a ready embedder, and {backbone.name} is a language model; expected a "
                "sentence-transformers folder (with modules.json); give one, or use `recipe='selfembed'`"
            )
        for name, stage in recipe.stages.items():
            if stage.objective.needs_decoder:
                raise InputError(
                    f"stage {name} of recipe {recipe.name}: {stage.objective.display_name} needs a language model "
                    f"with its decoder layer, and {ready.name} is a ready embedder; expected stages that read "
                    "embeddings alone, as recipe adapt has; leave this one out"
                )
    around = {} if reading is None else {
        f"word_embeddings {reading.word_embeddings:g}": reading.word_embeddings > 0,
        "pooling 'mean+last'": reading.pooling == "mean+last",
        "calibration 'before'": recipe.calibration == "before",
    }  # fmt: skip
    for name, stage in recipe.stages.items():
        for option, on in around.items():
            if on and stage.objective.decodes:
                raise InputError(
                    f"{option}: stage {name} of recipe {recipe.name} reads embeddings through the decoder layer, "
                    "which knows final hidden states alone; expected pooling 'last' or 'mean', word_embeddings 0 and "
                    "calibration 'after'"
                )
        try:
            stage.objective.check(reading, backbone)
        except InputError as error:
            raise InputError(f"stage {name} of recipe {recipe.name}: {error}") from error


def find_corpus(given: Any, pairs: tuple[Examples, ...]) -> Corpus:
    """Finds the corpus that is given; without one the different positives of the pairs, uncut, or the Python docs."""
    if given is None and pairs:
        positives = dict.fromkeys(text for examples in pairs for text in examples.rows["positive"])
        name = f"positives of {', '.join(examples.name for examples in pairs)}"
        return Corpus(Dataset.from_dict({"text": list(positives)}), passage_words=None, name=name)
    return given if isinstance(given, Corpus) else Corpus("python-docs" if given is None else given)


def read_pairs(
    recipe: Recipe, pairs: Any, dev: Any, instructions: Mapping[str, str] | None, *, seed: int
) -> tuple[tuple[Examples, ...], Examples | None]:
    """Reads the labelled examples of a plan, to train on and to decide when to stop.

    Raises:
        InputError: The recipe needs labelled examples and there are none, or it reads none, or they cannot be used.
    """
    given = pairs is not None and pairs not in ([], (), {})
    readers = {name: stage for name, stage in recipe.stages.items() if stage.objective.reads == "pairs"}
    if readers and not given:
        instead = _without_pairs(recipe)
        raise InputError(
            f"recipe {recipe.name}: its stage {', '.join(readers)} needs labelled pairs; give them (`pairs=FILE`)"
            + (f", or use {instead}, which needs none" if instead else ", or leave that stage out")
        )
    if not readers:
        for name, value in (("pairs", given), ("dev", dev), ("instruction", instructions)):
            if value:
                raise InputError(
                    f"{name}: recipe {recipe.name} has no stage that reads labelled pairs; leave it out, or use "
                    "`recipe='llm2comp'`"
                )
        return (), None
    sets = read_sets(pairs)
    if dev is not None:
        sets = (*sets, read_dev(dev))
    sets = instructed(sets, instructions or {})
    sets, dev_set = (sets, None) if dev is None else (sets[:-1], sets[-1])
    for stage in readers.values():  # what cannot be trained on is refused before the stages before it are trained
        stage.objective.check_pairs(sets, stage.budget, seed=seed)
    return sets, dev_set


def _without_pairs(recipe: Recipe) -> str | None:
    """Names the nearest recipe that reads texts alone, of those that have the other stages where there are any."""
    rest = [name for name, stage in recipe.stages.items() if stage.objective.reads == "texts"]
    made = {name: make().stages for name, make in RECIPES.items()}
    alone = [name for name, stages in made.items() if all(one.objective.reads == "texts" for one in stages.values())]
    found = [name for name in alone if not rest or list(made[name]) == rest]
    return next(iter(difflib.get_close_matches(recipe.name, found, n=1, cutoff=0)), None)


def read_dev(dev: Any) -> Examples:
    """Reads the pairs that decide when to stop.

    Raises:
        InputError: The pairs cannot be used, or all have the same positive.
    """
    examples = read_examples(dev)
    if len(set(examples.rows["positive"])) < 2:
        raise InputError(
            f"dev {examples.name}: all have the same positive; expected at least two; give pairs with different ones"
        )
    return examples
