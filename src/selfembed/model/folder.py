"""The record of a run in its embedder's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from selfembed.errors import InputError
from selfembed.ground.files import write_json
from selfembed.model.embedder import EmbedderConfig

RECORD = "selfembed.json"

# What is read of the parts whose other keys belong to the recipe and the corpus.
_READ = {
    "recipe": ("name", "stages", "lora", "embed_length", "statistics_texts"),
    "corpus_report": ("texts", "words", "skipped"),
}
_READ_OF_LORA = ("r", "alpha", "dropout")
_READ_OF_STAGE = ("objective", "steps", "batch_size", "max_length", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """How one stage of a run went.

    Args:
        name: Name of the stage.
        texts: Number of texts, or labelled examples, that it was trained on.
        preparation_seconds: Seconds until the first step, targets included.
        training_seconds: Seconds from the first step on.
        loss_curve: One entry a step, with its loss and what else the trainer logged.
        notes: Whatever else the stage's objective reported.
    """

    name: str
    texts: int
    preparation_seconds: float
    training_seconds: float
    loss_curve: list[dict[str, Any]]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [entry["loss"] for entry in self.loss_curve]

    @property
    def parts(self) -> list[str]:
        """Names of the losses that the loss is the sum of; empty where it is a single one."""
        return list(self.loss_curve[0].get("parts", ())) if self.loss_curve else []

    def losses_of(self, part: str) -> list[float]:
        """Gives a part's share of the loss of every step."""
        return [entry["parts"][part] for entry in self.loss_curve]

    @classmethod
    def from_dict(cls, value: Any, place: str = "stage") -> StageRecord:
        """Reads what :meth:`to_dict` gave; keys that are no field are notes.

        Raises:
            InputError: A key is missing, or its value is of another kind.
        """
        _require(value, "dict", place)
        own = {name: value[name] for name in _names(cls) if name in value and name != "notes"}
        notes = {name: item for name, item in value.items() if name not in own}
        _require_fields(cls, own, place)
        for step in own["loss_curve"]:
            if not isinstance(step, dict) or not isinstance(step.get("loss"), int | float):
                raise _damaged(place, "a step of loss_curve has no loss")
        return cls(**own, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values; notes stand among the other keys."""
        own = {name: getattr(self, name) for name in _names(type(self)) if name != "notes"}
        return {"name": self.name, "texts": self.texts, **self.notes, **own}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is known of the run that made an embedder: `selfembed.json` in its folder.

    Args:
        model: Name of the backbone, or of the ready embedder that was adapted, as it was given.
        model_fingerprint: Content hash of it.
        corpus: Name of the corpus.
        corpus_fingerprint: Content hash of its texts.
        corpus_report: Number of texts and words, and what was left out.
        recipe: Every number of the recipe; its objectives carry their kind.
        seed: Seed of the run.
        dtype: Dtype of the frozen weights in training.
        device: Device of the training.
        tagger: Name of the tagger with its version; `"none"` where none was needed.
        pairs: Sets of labelled examples; None where there were none.
        dev: Set that decided when to stop.
        stages: Record of each stage, in order.
        self_retrieval: What training was worth on texts of the corpus itself, where that was measured.
        environment: Versions and hardware.
        peak_memory_gib: Largest RAM of the process, in GiB.
        peak_gpu_memory_gib: Largest memory on the GPU, in GiB, where it ran on one.
        saved_dtype: Dtype of the weights in the folder's files; its config.json says in which one they are computed.
        cosine_to_model_in_memory: Least cosine between vectors of the folder and of the model before it was saved.
        origin: Name, hub id and licence of the backbone as far as its files say, see
            :class:`selfembed.model.origin.Origin`.
        datasets: Ids on the hub of the data sets that texts and pairs were read from; None where none was.
        language: Codes of the texts' languages, where they are known.
    """

    model: str
    model_fingerprint: str
    corpus: str
    corpus_fingerprint: str
    corpus_report: dict[str, Any]
    recipe: dict[str, Any]
    seed: int
    dtype: str
    device: str
    tagger: str
    pairs: list[dict[str, Any]] | None = None
    dev: dict[str, Any] | None = None
    stages: list[StageRecord]
    self_retrieval: dict[str, Any] | None = None
    environment: dict[str, Any]
    peak_memory_gib: float
    peak_gpu_memory_gib: float | None = None
    saved_dtype: str | None = None
    cosine_to_model_in_memory: float | None = None
    origin: dict[str, Any] | None = None
    datasets: list[str] | None = None
    language: list[str] | None = None

    @property
    def adapted(self) -> bool:
        """Whether the embedder is a ready one that was adapted, and the model no backbone."""
        return self.recipe["embedder"] is None

    @property
    def config(self) -> EmbedderConfig:
        """How the backbone is read as an embedder."""
        assert not self.adapted
        return EmbedderConfig(**self.recipe["embedder"])

    @property
    def seconds(self) -> float:
        """Seconds of all stages, preparation included."""
        return sum(stage.preparation_seconds + stage.training_seconds for stage in self.stages)

    @classmethod
    def from_dict(cls, value: Any, place: str = "record") -> RunRecord:
        """Reads what :meth:`to_dict` gave.

        Args:
            value: Anything that JSON may hold.
            place: Where the value was found, for the error.

        Raises:
            InputError: A key is missing or unknown, or its value is of another kind.
        """
        _require(value, "dict", place)
        unknown = sorted(value.keys() - set(_names(cls)))
        if unknown:
            raise _damaged(place, f"unknown {', '.join(map(repr, unknown))}")
        _require_fields(cls, value, place)
        for part, names in _READ.items():
            _require_keys(value[part], names, f"{place}, {part}")
        recipe = value["recipe"]
        _require_keys(recipe["lora"], _READ_OF_LORA, f"{place}, recipe.lora")
        _require(recipe["stages"], "dict", f"{place}, recipe.stages")
        for name, stage in recipe["stages"].items():
            _require_keys(stage, _READ_OF_STAGE, f"{place}, recipe.stages.{name}")
            _require_keys(stage["objective"], ("kind",), f"{place}, recipe.stages.{name}.objective")
        if "embedder" not in recipe:
            raise _damaged(f"{place}, recipe", "no 'embedder'")
        try:
            if recipe["embedder"] is not None:
                EmbedderConfig(**recipe["embedder"])
        except (InputError, TypeError) as error:
            raise _damaged(f"{place}, recipe.embedder", str(error)) from error
        stages = [StageRecord.from_dict(stage, f"{place}, stages") for stage in value["stages"]]
        return cls(**{**value, "stages": stages})

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values, without what is None."""
        values = {name: getattr(self, name) for name in _names(type(self))}
        values["stages"] = [stage.to_dict() for stage in self.stages]
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_file(cls, file: Path) -> RunRecord:
        """Reads a record from a file.

        Raises:
            InputError: The file cannot be read, or is no record of a run.
        """
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(str(file), str(error).splitlines()[0]) from error
        return cls.from_dict(value, str(file))

    def to_file(self, file: Path) -> None:
        """Writes the record into a file, which appears under its name only when it is complete."""
        write_json(file, self.to_dict())

    @classmethod
    def of_folder(cls, folder: str | Path) -> RunRecord | None:
        """Reads the record of an embedder's folder; None where selfembed did not make it, or it is no folder.

        Raises:
            InputError: See :meth:`from_file`.
        """
        file = Path(folder) / RECORD
        return cls.from_file(file) if file.is_file() else None


# The outermost type of an annotation is what is checked.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "dict": (dict,),
    "list": (list,),
}
_WORDS = {"str": "a string", "int": "a whole number", "float": "a number", "dict": "an object", "list": "a list"}


def _names(kind: type[StageRecord | RunRecord]) -> list[str]:
    return [one.name for one in fields(kind)]


def _require_fields(kind: type[StageRecord | RunRecord], value: dict[str, Any], place: str) -> None:
    """Checks that every field is there and of its kind."""
    annotations = {one.name: str(one.type) for one in fields(kind) if one.name != "notes"}
    _require_keys(value, [name for name, words in annotations.items() if "None" not in words], place)
    for name, words in annotations.items():
        if value.get(name) is not None:
            _require(value[name], words.partition("[")[0].partition(" ")[0], f"{place}, {name}")


def _require_keys(value: Any, names: Iterable[str], place: str) -> None:
    _require(value, "dict", place)
    missing = [name for name in names if value.get(name) is None]
    if missing:
        raise _damaged(place, f"no {', '.join(map(repr, missing))}")


def _require(value: Any, kind: str, place: str) -> None:
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
        raise _damaged(place, f"{json.dumps(value)[:40]} instead of {_WORDS[kind]}")


def _damaged(place: str, reason: str) -> InputError:
    return InputError(
        f"{place}: {reason}; expected what this version of selfembed train has written; restore the file, or remove "
        "it, and the folder counts as one that others have made"
    )
