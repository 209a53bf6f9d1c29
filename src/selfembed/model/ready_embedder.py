"""A ready embedder: a sentence-transformers folder that others have trained, decoder or encoder, to be adapted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from transformers import PretrainedConfig

from selfembed.errors import InputError
from selfembed.ground.hashing import files_hash
from selfembed.model.backbone import EMBEDDED, Backbone, download
from selfembed.model.checkpoint import require_plain, require_whole
from selfembed.model.pooling import TYPE

MODULES = "modules.json"
_COUNTED = (".json", ".safetensors", ".bin", ".txt", ".model", ".py")  # files that may decide what a module computes


@dataclass(frozen=True)
class ReadyEmbedder:
    """A sentence-transformers folder whose first module is a transformer; the others, and its prompts, stay as are.

    Args:
        name: Name as the user gave it.
        folder: Folder with `modules.json`.
        trust_remote_code: Whether the folder's own Python code may run.
    """

    name: str
    folder: Path
    trust_remote_code: bool = False

    @cached_property
    def modules(self) -> list[dict[str, Any]]:
        """The entries of `modules.json`, in order."""
        found: list[dict[str, Any]] = json.loads((self.folder / MODULES).read_text())
        return found

    @cached_property
    def transformer(self) -> Backbone:
        """The transformer's folder; where it is an encoder it has no decoder layer."""
        return Backbone(self.name, self.folder / self.modules[0]["path"], self.trust_remote_code)

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of all that decides what the embedder computes."""
        folders = {self.folder / module["path"] for module in self.modules}
        files = {file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.suffix in _COUNTED}
        settings = (self.folder / name for name in (MODULES, "config_sentence_transformers.json"))
        return files_hash([*files, *(file for file in settings if file.is_file() and file not in files)])

    @cached_property
    def max_length(self) -> int:
        """Largest number of tokens of an input that the embedder reads; the rest of a text is cut off."""
        settings = Transformer.load_config(str(self.folder), subfolder=self.modules[0]["path"])
        own = settings.get("max_seq_length")
        length: int = self.transformer.tokenizer.model_max_length if own is None else own
        positions = getattr(self.transformer.config.get_text_config(), "max_position_embeddings", None) or 0
        return min(length, positions) if own is None and positions > 0 else length

    def load(
        self,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        weights: Backbone | None = None,
        dropout: bool = True,
    ) -> SentenceTransformer:
        """Loads the embedder.

        Args:
            dtype: Dtype of the weights.
            device: The device, as SentenceTransformer takes it; None lets it choose.
            weights: The transformer's folder, or another to take its weights from.
            dropout: Whether the transformer keeps its own dropout in training mode.

        Raises:
            InputError: sentence-transformers cannot load it.
        """
        try:
            embedder = SentenceTransformer(
                str(self.folder),
                device=device,
                trust_remote_code=self.trust_remote_code,
                model_kwargs={"dtype": dtype},
                config_kwargs={} if dropout else _without_dropout(self.transformer.config),
            )
            if weights is not None and weights.folder != self.transformer.folder:
                model = embedder.transformers_model
                other = type(model).from_pretrained(weights.folder, config=model.config, dtype=dtype)
                embedder[0].model = other.to(embedder.device)
        except Exception as error:  # a damaged file's, a missing package's and a missing device's have no common class
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(
                f"model {self.name}: sentence-transformers cannot load it ({reason}); expected a folder that it has "
                "saved; download it again"
            ) from error
        return embedder.eval()


def _without_dropout(config: PretrainedConfig) -> dict[str, float]:
    """Names the dropouts of a configuration, each 0."""
    values = config.to_dict().items()
    return {name: 0.0 for name, value in values if isinstance(value, float) and ("dropout" in name or "pdrop" in name)}


def is_ready(model: str | Path) -> bool:
    """Tells whether a model is a ready embedder; one that has to come from the hub is downloaded for that.

    Raises:
        InputError: There is no such model.
    """
    path = Path(model).expanduser()
    if str(model) == EMBEDDED or path.is_file() or path.suffix.lower() == ".gguf":
        return False
    return ((path if path.is_dir() else download(str(model))) / MODULES).is_file()


def load_ready(model: str | Path, *, trust_remote_code: bool = False) -> ReadyEmbedder:
    """Finds a ready embedder on disk or on the hub, and refuses what cannot be adapted.

    Args:
        model: A folder that sentence-transformers has saved, or a hub id.
        trust_remote_code: Whether its own Python code may run.

    Raises:
        InputError: It is damaged, its first module is no transformer, it has memory tokens, it is an adapter or
            quantized, or weights are missing or not finite.
    """
    name, path = str(model), Path(model).expanduser()
    ready = ReadyEmbedder(name, path.resolve() if path.is_dir() else download(name), trust_remote_code)
    try:
        types = [str(module["type"]) for module in ready.modules]
        first = types[0]
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(
            f"model {name}: its {MODULES} cannot be read ({type(error).__name__}: {error}); expected that of "
            "sentence-transformers; download it again"
        ) from error
    if TYPE in types:
        raise InputError(
            f"model {name}: pools over memory tokens, which training would take apart; expected an embedder of "
            "sentence-transformers' own modules; train that language model further with one recipe instead"
        )
    if not first.startswith("sentence_transformers.") or first.rpartition(".")[2] != "Transformer":
        raise InputError(
            f"model {name}: its first module is {first}; expected sentence-transformers' Transformer, whose linear "
            "layers can be adapted; choose another embedder"
        )
    try:
        config = ready.transformer.config
    except Exception as error:
        raise InputError(
            f"model {name}: its config.json cannot be read ({str(error).strip().splitlines()[0]}); "
            "expected that of a transformers model"
        ) from error
    require_plain(name, ready.transformer.folder, config)
    if not getattr(config, "is_encoder_decoder", False):  # half of one is whole
        require_whole(name, ready.transformer.folder, trust_remote_code=trust_remote_code, head=False)
    return ready
