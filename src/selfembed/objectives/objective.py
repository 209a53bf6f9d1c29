"""What an objective is, what it is given, and what it gives to training.

An objective is a frozen dataclass of options, in a file of its own, with a line in
:mod:`selfembed.objectives.registry`. It supplies `citation` and :meth:`Objective.prepare`; all else has a default.
What `prepare` returns is a loss as sentence-transformers knows it, `loss(sentence_features, labels)`, and which
texts it can be taught on.

To share forward passes in a mixture the objective says `shares_forward = True` and its loss supplies three things
more, see :class:`selfembed.losses.mixture.LossOfEmbeddings`:

- `columns`: the columns whose embeddings it reads, one name each; a column named twice is embedded twice;
- `constants(features, labels)`: what it needs besides embeddings and without a gradient, such as targets;
- `of_embeddings(embeddings, constants)`: its value.

An objective that makes pairs out of texts, say (query, passage), does so in :meth:`Objective.cut`: it returns the
material with the passages as `texts` and the queries, one for each, as `columns={"query": ...}`. Where it cuts as
many as `budget.texts`, the first `budget.batch_size` are the first step and so on, so that it decides what comes
together. Its loss has `columns = ("query", "text")` and is `whole_batch`. In a mixture all parts are prepared with
the material as it was cut; a token target beside it is thus the passage's, reads `("text",)`, and shares the
passage's forward pass, gradients cached for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import TrainerCallback

from selfembed.data.corpus import Corpus
from selfembed.data.pairs import Examples
from selfembed.ground.options import check_options
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import Backbone, LMHead
from selfembed.model.embedder import EmbedderConfig
from selfembed.model.prompt import as_read, bake_prompt
from selfembed.targets.tagger import Tagger
from selfembed.targets.token_targets import TokenTargets

# A training step in forward passes of the same batch: docs/results/benchmarks.jsonl.
STEP_FORWARDS = 2.5


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Says how long a stage trains, and on how much at once.

    Args:
        steps: Number of optimiser steps.
        batch_size: Number of texts, or labelled examples, per step.
        micro_batch_size: Number of texts per forward pass; None takes the whole batch.
    """

    steps: int
    batch_size: int
    micro_batch_size: int | None = None

    @property
    def texts(self) -> int:
        """Counts the texts that are read, repetitions included."""
        return self.steps * self.batch_size

    @property
    def mini_batch_size(self) -> int:
        """Gives the number of texts per forward pass."""
        return self.micro_batch_size or self.batch_size


@dataclass(frozen=True, kw_only=True)
class Material:
    """Holds what an objective makes its loss and its data of.

    Args:
        backbone: The language model, or the transformer of a ready embedder, whose tokenizer and vocabulary count.
        reading: How the backbone is read as an embedder; None for a ready embedder, which is read in its own way.
        make_embedder: Builds the embedder; with its adapter off it is the raw model of model-derived targets.
        make_head: Reads the frozen decoder layer.
        corpus: All texts; token statistics are counted over them.
        texts: The texts of the stage; empty where the objective reads pairs.
        places: For each of `texts`, the row of the corpus that it is or is cut from; None for other texts.
        columns: Further columns of text, each with one entry for each of `texts`.
        column_places: For each entry of those columns that are cut from other rows of the corpus than `texts`, the
            row, -1 where there is none.
        notes: What cutting has found, for the record of the stage.
        pairs: The sets of labelled examples to train on.
        dev: The set of labelled examples that decides when to stop.
        tagger: The tagger of parts of speech; None where no objective needs one.
        statistics_texts: Largest number of texts of the corpus that token statistics are counted over.
        max_length: Largest number of tokens of an input, prompt included; None cuts no text.
        budget: Budget of the stage; the default is for targets that are only looked at.
        seed: Seed for everything that is drawn at random.
        folder: Folder of the stage, for files that the objective keeps.
        look: Whether targets or pairs are only looked at. What needs the model on other texts then makes do with
            `texts`, and no model writes any.
        progress: Called with (task, done, total).
    """

    backbone: Backbone
    reading: EmbedderConfig | None
    make_embedder: Callable[[], SentenceTransformer]
    make_head: Callable[[], LMHead]
    corpus: Corpus
    texts: Sequence[str] = ()
    places: Sequence[int] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    column_places: Mapping[str, Sequence[int]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    pairs: tuple[Examples, ...] = ()
    dev: Examples | None = None
    tagger: Tagger | None = None
    statistics_texts: int = 200_000
    max_length: int | None = None
    budget: Budget = Budget(steps=1, batch_size=1)
    seed: int = 0
    folder: Path = Path()
    look: bool = False
    progress: Progress = silent

    @cached_property
    def embedder(self) -> SentenceTransformer:
        """Builds the embedder when it is first asked for."""
        return self.make_embedder()

    @cached_property
    def head(self) -> LMHead:
        """Reads the frozen decoder layer when it is first asked for."""
        return self.make_head()

    def read_texts(self) -> Sequence[str]:
        """Gives of each text what an input of the language model holds of it beside the prompt."""
        if self.max_length is None or self.reading is None:
            return self.texts
        tokenizer, reading = self.backbone.tokenizer, self.reading
        prompted = bake_prompt(
            tokenizer, reading.template, max_length=self.max_length, memory_tokens=reading.memory_tokens
        )
        return as_read(prompted, self.texts)


@dataclass(kw_only=True)
class Prepared:
    """Holds what a stage trains with.

    Args:
        loss: The loss. It takes `(sentence_features, labels)` and gives one number, or several by name to be added up.
        rows: Row numbers of the material's texts that are trained on, ascending; None takes all.
        label: Meaning of the column `label`: the number of the `"text"` among the material's texts, or the number
            of the `"turn"`, which differs whenever a text comes again.
        distinct: Whether no text may come twice in a step, since the others are its negatives.
        notes: Further entries of the record of the stage.
        callbacks: Callbacks for the trainer.
        state: Gives the state of training beside adapter and optimiser, by name; None where there is none.
        restore: Takes back what `state` gave.
        data: Gives the rows in the order of training from a step on, in place of texts; the trainer skips the others.
        goes_on: Tells whether training, which stopped after this step, goes on with other data.
        finish: Gives further notes when training is over.
    """

    loss: nn.Module
    rows: Sequence[int] | None = None
    label: Literal["text", "turn"] = "text"
    distinct: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    callbacks: tuple[TrainerCallback, ...] = ()
    state: Callable[[], dict[str, Tensor]] | None = None
    restore: Callable[[dict[str, Tensor]], None] | None = None
    data: Callable[[int], Dataset] | None = None
    goes_on: Callable[[int], bool] = lambda step: False
    finish: Callable[[], dict[str, Any]] = dict


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Holds what an estimate knows of a corpus and a machine.

    Args:
        texts: Number of texts of the corpus.
        words: Number of words of the corpus.
        statistics_texts: Largest number of texts that token statistics are counted over.
        mean_tokens: Mean number of tokens of an input, prompt included.
        tokens_per_second: Speed of a forward pass.
        texts_read: Number of texts that the stage reads, repetitions included.
    """

    texts: int
    words: int
    statistics_texts: int
    mean_tokens: float
    tokens_per_second: float
    texts_read: int


class Objective(ABC):
    """Describes what a stage optimises: options, checked by their annotations, and how loss and data come of them.

    Attributes:
        reads: What is trained on: `"texts"` of the corpus, or labelled `"pairs"`.
        whole_batch: Whether the texts of a batch are held against each other, so that it cannot be cut into steps of
            gradient accumulation.
        forwards: Cost of a training step, in forward passes over its tokens.
        citation: BibTeX entry of the paper that it is from.
        attention_dropout: Dropout of attention probabilities while it is trained.
        trains_memory: Whether memory vectors are trained; otherwise they stay as they are.
        shares_forward: Whether its loss is one of embeddings, so that a mixture need not pay for it again.
        columns: Columns that a step embeds with a gradient; one that is embedded twice is named twice.
        caches: Whether gradients are cached even where a batch is not cut, so that one column is kept at a time.
        decodes: Whether its loss reads embeddings through the decoder layer, for which they must be final hidden
            states: without word embeddings added to them and without an affine map.
        needs_decoder: Whether it needs a language model, for its decoder layer or for what its tokens alone see; a
            ready embedder is refused.
    """

    reads: Literal["texts", "pairs"] = "texts"
    whole_batch: bool = False
    forwards: float = STEP_FORWARDS
    citation: str
    attention_dropout: float = 0.0
    trains_memory: bool = False
    shares_forward: bool = False
    columns: tuple[str, ...] = ("text",)
    caches: bool = False
    decodes: bool = False
    needs_decoder: bool = False

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def citations(self) -> tuple[str, ...]:
        """Lists the BibTeX entries."""
        return (self.citation,)

    @property
    def display_name(self) -> str:
        """Names the objective in tables."""
        return type(self).__name__

    @property
    def needs_tagger(self) -> bool:
        """Tells whether texts have to be tagged with parts of speech."""
        return False

    def check(self, reading: EmbedderConfig | None, backbone: Backbone) -> None:
        """Refuses an embedder or a backbone that it cannot train.

        Args:
            reading: How the backbone is read as an embedder; None for a ready embedder, which only comes here where
                no decoder is needed.
            backbone: The language model, or the transformer of the ready embedder.

        Raises:
            InputError: It cannot; the message says what it needs.
        """
        return

    def check_pairs(self, sets: Sequence[Examples], budget: Budget, *, seed: int) -> None:
        """Refuses labelled examples that it cannot be trained on, before anything is trained.

        Raises:
            InputError: It cannot; the message says what it needs.
        """
        return

    def preparation_seconds(self, measured: Measured) -> float:
        """Estimates the seconds that :meth:`prepare` takes."""
        return 0.0

    def held_tokens(self, longest: Mapping[str, int], *, cut: bool) -> int:
        """Counts the tokens, for each text of a forward pass, whose activations a step keeps at once.

        Args:
            longest: Number of tokens of the longest input of each column of the training data.
            cut: Whether a forward pass takes a part of the batch.
        """
        lengths = [longest[column] for column in self.columns]
        return max(lengths) if self.caches or (cut and self.whole_batch) else sum(lengths)

    def targets(self, material: Material) -> TokenTargets | None:
        """Gives the token targets of the material's texts, in order; None if the objective has no token targets."""
        return None

    def cut(self, material: Material) -> Material:
        """Replaces the texts of the corpus by those that are trained on; by default the material stays as it is."""
        return material

    @abstractmethod
    def prepare(self, material: Material) -> Prepared:
        """Makes loss and data of a material that :meth:`cut` returned.

        Raises:
            InputError: There is nothing to train on.
        """
