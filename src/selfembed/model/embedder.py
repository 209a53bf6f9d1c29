"""An embedder: backbone + attention mode + prompt + pooling, as a stock SentenceTransformer."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer
from torch import nn
from transformers import PretrainedConfig

from selfembed.errors import InputError
from selfembed.ground.files import arriving_folder, cache_dir
from selfembed.ground.hashing import content_hash
from selfembed.ground.options import Range, check_options
from selfembed.model.attention import Attention, probe_attention, require_attention
from selfembed.model.backbone import Backbone
from selfembed.model.checkpoint import require_finite, require_whole_embedder
from selfembed.model.memory_tokens import MemoryInit, add_memory_tokens
from selfembed.model.pooling import TYPE, MemoryPooling
from selfembed.model.prompt import NO_PROMPT, PROMPT_EOL, PromptIds, bake_prompt, check_prompt, check_text, prompt_ids
from selfembed.model.word_embeddings import word_and_state

PoolingMode = Literal["last", "mean", "weightedmean", "mean+last", "memory"]

_STOCK_POOLING: dict[str, str | tuple[str, ...]] = {
    "last": "lasttoken",
    "mean": "mean",
    "weightedmean": "weightedmean",
    "mean+last": ("mean", "lasttoken"),
    "memory": "lasttoken",
}
# What may stand behind the decoder of a folder with several memory tokens.
_BEHIND_MEMORY: dict[str, Any] = {
    TYPE: MemoryPooling,
    **{f"{one.__module__}.{one.__name__}": one for one in (Dense, LayerNorm)},
}


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """How a backbone is read as an embedder.

    Args:
        pooling: `"last"` takes the hidden state of the last token, `"mean"` the mean over all tokens, prompt and bos
            included, `"weightedmean"` the same with token i of T weighing i, since later tokens have seen more (SGPT,
            arXiv 2202.08904), `"mean+last"` the mean and the last, one after the other, `"memory"` the mean over the
            memory tokens alone (LLM2Comp).
        attention: `"causal"` or `"bidirectional"`.
        prompt: Template with `{text}`; None takes PromptEOL where the last token is read and no prompt otherwise
            (Text2Token Eqs. 3-4).
        memory_tokens: Number of memory tokens behind every text: at least 1 with memory pooling, otherwise 0.
        memory_init: How memory vectors start, see :func:`selfembed.model.memory_tokens.initial_memory`.
        word_embeddings: How much of its input embedding is added to every token's final hidden state before pooling,
            see :func:`selfembed.model.word_embeddings.word_and_state`; 0 adds none.

    Raises:
        InputError: A value is unknown, or memory tokens do not go together with the pooling or with word embeddings.
    """

    pooling: PoolingMode = "last"
    attention: Attention = "causal"
    prompt: str | None = None
    memory_tokens: int = 0
    memory_init: MemoryInit = "mean"
    word_embeddings: Annotated[float, Range(least=0)] = 0.0

    def __post_init__(self) -> None:
        check_options(self)
        if self.word_embeddings and self.pooling == "memory":
            raise InputError(
                f"word_embeddings {self.word_embeddings}: memory tokens are no words; expected 0, or pooling 'mean'"
            )
        if self.pooling == "memory" and self.memory_tokens < 1:
            raise InputError(
                f"memory_tokens {self.memory_tokens}: expected at least 1 for pooling 'memory', 8 in the paper; "
                "set it, or choose pooling 'last' or 'mean'"
            )
        if self.pooling != "memory" and self.memory_tokens != 0:
            raise InputError(
                f"memory_tokens {self.memory_tokens}: expected 0 for pooling {self.pooling!r}, which reads none; "
                "set it, or choose pooling 'memory'"
            )

    @property
    def template(self) -> str:
        """The prompt, or what None stands for."""
        if self.prompt is not None:
            return self.prompt
        return PROMPT_EOL if self.pooling in ("last", "mean+last") else NO_PROMPT


def build_embedder(
    backbone: Backbone,
    config: EmbedderConfig,
    *,
    max_length: int = 512,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
    seed: int = 0,
) -> SentenceTransformer:
    """Builds the untrained embedder of a backbone, and proves its attention by the leak probe.

    Args:
        backbone: The decoder.
        config: Pooling, attention and prompt.
        max_length: Number of tokens of a whole input, at most, prompt and memory tokens included.
        dtype: Dtype of the weights; memory vectors are always float32.
        device: The device, as SentenceTransformer takes it; None lets it choose.
        seed: Seed for the start of the memory vectors.

    Raises:
        InputError: The prompt does not fit, or the backbone cannot be given this attention mode or memory tokens.
    """
    folder = assemble_folder(backbone, config)
    transformer = Transformer(
        str(folder),
        model_kwargs={"dtype": dtype, "trust_remote_code": backbone.trust_remote_code},
        config_kwargs={"trust_remote_code": backbone.trust_remote_code},
    )
    if config.memory_tokens:
        add_memory_tokens(
            transformer.model,
            config.memory_tokens,
            first_memory_id(backbone, config),
            init=config.memory_init,
            seed=seed,
            tokenizer=backbone.tokenizer,
        )
    pooling = pooling_modules(transformer, backbone, config)
    embedder = SentenceTransformer(modules=[transformer, *pooling], device=device)
    embedder.max_seq_length = fitting_length(backbone, config, max_length)
    embedder.eval()
    # Probed as loaded, which is how a saved folder of it comes back; one probe where all is well.
    as_saved = probe_attention(transformer.model).verdict
    if as_saved != config.attention:
        require_attention(transformer.model, config.attention)
        raise InputError(
            f"model {backbone.name}: {backbone.config.model_type} is {config.attention} only until it is saved, and "
            f"comes back {as_saved}; expected {config.attention}; use `attention='causal'` or another backbone"
        )
    return embedder


def pooling_modules(transformer: Transformer, backbone: Backbone, config: EmbedderConfig) -> list[nn.Module]:
    """Makes the modules from token states to a vector: sentence-transformers' own, but for several memory tokens."""
    width = transformer.get_embedding_dimension()
    if config.memory_tokens > 1:
        return [MemoryPooling(width, first_memory_id(backbone, config), config.memory_tokens)]
    pooling = Pooling(width, pooling_mode=_STOCK_POOLING[config.pooling])
    return [word_and_state(transformer, config.word_embeddings), pooling] if config.word_embeddings else [pooling]


def embedder_prompt(backbone: Backbone, config: EmbedderConfig) -> PromptIds:
    """Gives the ids before and after every text, memory tokens included."""
    return prompt_ids(backbone.tokenizer, config.template, config.memory_tokens)


def first_memory_id(backbone: Backbone, config: EmbedderConfig) -> int:
    """Gives the id of the first memory token."""
    return embedder_prompt(backbone, config).after[-config.memory_tokens]


def load_embedder(
    embedder: str | Path, *, device: str | None = None, trust_remote_code: bool = False
) -> SentenceTransformer:
    """Loads a finished embedder, also one with memory tokens, without running code out of its folder.

    A folder with several memory tokens names a pooling class that is not part of sentence-transformers, which for that
    asks for `trust_remote_code=True`. Here the class of this package is used. Any other folder is left to
    sentence-transformers.

    Args:
        embedder: Folder that selfembed or sentence-transformers has saved, or a hub id.
        device: `"cpu"`, `"cuda"` and the like; None takes a GPU where there is one.
        trust_remote_code: Whether the backbone's Python code, which a folder may carry, may run.

    Raises:
        InputError: There is no embedder, weights are missing, damaged or not finite, or there is no such device.
    """
    require_embedder(embedder)
    if Path(embedder).is_dir():
        require_whole_embedder(Path(embedder), trust_remote_code=trust_remote_code)
    try:
        loaded = _load_embedder(Path(embedder), str(embedder), device, trust_remote_code)
    except Exception as error:  # the hub's, a damaged file's and a missing device's errors have no common class
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        what = "cannot be loaded" if Path(embedder).is_dir() else "no such folder, and the hub did not give it"
        wanted = "a folder or hub id of sentence-transformers" + (f", and a device {device!r}" if device else "")
        raise InputError(f"embedder {embedder}: {what} ({reason}); expected {wanted}") from error
    require_finite(f"embedder {embedder}", loaded)
    return loaded


def require_embedder(embedder: str | Path) -> None:
    """Refuses a folder that is no embedder, without loading anything.

    Raises:
        InputError: The folder has no `modules.json`.
    """
    folder = Path(embedder)
    if folder.is_dir() and not (folder / "modules.json").is_file():
        raise InputError(
            f"embedder {folder}: has no modules.json, so it is none; expected a folder that selfembed train or "
            "sentence-transformers has saved"
        )


def _load_embedder(folder: Path, name: str, device: str | None, trust_remote_code: bool) -> SentenceTransformer:
    listed = folder / "modules.json"
    modules = json.loads(listed.read_text()) if listed.is_file() else []
    if not any(module["type"] == TYPE for module in modules):
        return SentenceTransformer(name, device=device, trust_remote_code=trust_remote_code)
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    return SentenceTransformer(
        modules=[
            Transformer.load(str(folder), trust_remote_code=trust_remote_code),
            *(_BEHIND_MEMORY[module["type"]].load(str(folder), subfolder=module["path"]) for module in modules[1:]),
        ],
        prompts=settings["prompts"],
        similarity_fn_name=settings["similarity_fn_name"],
        device=device,
    )


def fitting_length(backbone: Backbone, config: EmbedderConfig, max_length: int) -> int:
    """Gives `max_length`, or as many tokens as the backbone has positions for.

    Raises:
        InputError: The prompt leaves no room for text.
    """
    positions = getattr(backbone.config.get_text_config(), "max_position_embeddings", None) or max_length
    prompt = len(embedder_prompt(backbone, config))
    length = min(max_length, positions)
    if length <= prompt:
        raise InputError(f"max_length {length}: the prompt alone takes {prompt} tokens; give a larger number")
    return length


def assemble_folder(backbone: Backbone, config: EmbedderConfig) -> Path:
    """Makes a folder with the backbone's weights (linked), its config with the attention, and the prompted tokenizer.

    Memory tokens have an id in the tokenizer but no row in the embedding matrix, which is the backbone's. The folder
    lies in the cache under a hash of what went into it.

    Raises:
        InputError: The prompt does not fit, or the folder cannot be written.
    """
    tokens = [f"{config.memory_tokens} memory tokens"] if config.memory_tokens else []
    layers = ["all layers"] if config.word_embeddings else []
    key = content_hash(
        [backbone.fingerprint, backbone.tokenizer_key],
        config.template,
        config.attention,
        "dropout off, text is text",
        *tokens,
        *layers,
    )
    folder = cache_dir() / "embedders" / key[:16]
    if folder.is_dir() and all(file.exists() for file in folder.iterdir()):
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # the backbone it links to was moved away
    folder.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(folder, shared=True) as staging:
        for file in [*backbone.weight_files, *backbone.folder.glob("*.py")]:
            try:
                (staging / file.name).symlink_to(file.resolve())
            except OSError:
                shutil.copy2(file, staging / file.name)
        settings = embedding_config(backbone, config)
        # The adapter's dropout is the only one in training (Text2Token §5.1; methods that need more say so).
        for name, value in settings.to_dict().items():
            if isinstance(value, float) and ("dropout" in name or "pdrop" in name):
                setattr(settings, name, 0.0)
        settings.save_pretrained(staging)
        save_tokenizer(backbone, config, staging, max_length=fitting_length(backbone, config, 512))
    return folder


def embedding_config(backbone: Backbone, config: EmbedderConfig) -> PretrainedConfig:
    """Copies the backbone's configuration and writes the attention mode into it."""
    settings = type(backbone.config).from_dict(backbone.config.to_dict())
    settings.is_causal = config.attention == "causal"
    if config.word_embeddings:
        settings.output_hidden_states = True
    return settings


def save_tokenizer(backbone: Backbone, config: EmbedderConfig, folder: Path, *, max_length: int) -> None:
    """Writes the prompted tokenizer, and proves that it comes back with its prompt and reads texts as text.

    Raises:
        InputError: It does not come back so.
    """
    baked = bake_prompt(backbone.tokenizer, config.template, max_length=max_length, memory_tokens=config.memory_tokens)
    baked.save_pretrained(folder)
    from transformers import AutoTokenizer

    reloaded = AutoTokenizer.from_pretrained(folder)
    check_prompt(reloaded, embedder_prompt(backbone, config))
    check_text(reloaded, baked)
