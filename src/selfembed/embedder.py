"""An embedder: backbone + attention mode + prompt + pooling, as a stock SentenceTransformer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from selfembed.attention import Attention, probe_attention, require_attention
from selfembed.backbone import Backbone
from selfembed.errors import InputError
from selfembed.prompt import NO_PROMPT, PROMPT_EOL, bake_prompt, check_prompt, prompt_ids
from selfembed.provenance import arriving_folder, cache_dir, content_hash

PoolingMode = Literal["last", "mean"]

_STOCK_POOLING = {"last": "lasttoken", "mean": "mean"}


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """How a backbone is read as an embedder.

    Args:
        pooling: ``"last"``: the hidden state of the input's last token; ``"mean"``: of all its tokens, prompt and bos
            included.
        attention: ``"causal"`` or ``"bidirectional"``.
        prompt: template with ``{text}``; None takes PromptEOL for last pooling and no prompt for mean pooling
            (Text2Token Eqs. 3-4).
    """

    pooling: PoolingMode = "last"
    attention: Attention = "causal"
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.pooling not in _STOCK_POOLING:
            raise InputError(f"pooling {self.pooling!r}: expected 'last' or 'mean'")
        if self.attention not in ("causal", "bidirectional"):
            raise InputError(f"attention {self.attention!r}: expected 'causal' or 'bidirectional'")

    @property
    def template(self) -> str:
        if self.prompt is not None:
            return self.prompt
        return PROMPT_EOL if self.pooling == "last" else NO_PROMPT


def build_embedder(
    backbone: Backbone,
    config: EmbedderConfig,
    *,
    max_length: int = 512,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
) -> SentenceTransformer:
    """The untrained embedder of a backbone, its attention mode proved by the leak probe.

    Args:
        backbone: the decoder.
        config: pooling, attention and prompt.
        max_length: tokens of a whole input, prompt included.
        dtype: of the weights.
        device: as SentenceTransformer takes it; None lets it choose.

    Raises:
        InputError: the prompt does not fit, or the backbone cannot be given this attention mode.
    """
    folder = assemble_folder(backbone, config)
    transformer = Transformer(
        str(folder),
        model_kwargs={"dtype": dtype, "trust_remote_code": backbone.trust_remote_code},
        config_kwargs={"trust_remote_code": backbone.trust_remote_code},
    )
    embedder = SentenceTransformer(modules=[transformer, stock_pooling(transformer, config)], device=device)
    embedder.max_seq_length = fitting_length(backbone, config, max_length)
    embedder.eval()
    # Probed as loaded, which is how a saved folder of it comes back; one probe where all is well.
    as_saved = probe_attention(transformer.model).verdict
    if as_saved != config.attention:
        require_attention(transformer.model, config.attention)
        raise InputError(
            f"model {backbone.name}: {backbone.config.model_type} is {config.attention} only while it is in memory; a "
            f"saved folder of it comes back {as_saved}; use --attention causal or another backbone"
        )
    return embedder


def stock_pooling(transformer: Transformer, config: EmbedderConfig) -> Pooling:
    """sentence-transformers' own pooling module for our pooling mode."""
    return Pooling(transformer.get_embedding_dimension(), pooling_mode=_STOCK_POOLING[config.pooling])


def fitting_length(backbone: Backbone, config: EmbedderConfig, max_length: int) -> int:
    """``max_length``, or what the backbone's positions allow.

    Raises:
        InputError: the prompt leaves no room for text.
    """
    positions = getattr(backbone.config.get_text_config(), "max_position_embeddings", None) or max_length
    prompt = len(prompt_ids(backbone.tokenizer, config.template))
    length = min(max_length, positions)
    if length <= prompt:
        raise InputError(f"max length {length}: the prompt alone takes {prompt} tokens; give a larger --max-length")
    return length


def assemble_folder(backbone: Backbone, config: EmbedderConfig) -> Path:
    """A folder with the backbone's weights (linked), its config with the attention mode, and the prompted tokenizer.

    It lies in the cache under a hash of what went into it.
    """
    key = content_hash(backbone.fingerprint, config.template, config.attention, "dropout off")
    folder = cache_dir() / "embedders" / key[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(folder) as staging:
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


def embedding_config(backbone: Backbone, config: EmbedderConfig):
    """The backbone's configuration with the attention mode written into it; the backbone's own is left alone."""
    settings = type(backbone.config).from_dict(backbone.config.to_dict())
    settings.is_causal = config.attention == "causal"
    return settings


def save_tokenizer(backbone: Backbone, config: EmbedderConfig, folder: Path, *, max_length: int) -> None:
    """Writes the prompted tokenizer and proves that it comes back with its prompt.

    Raises:
        InputError: it does not.
    """
    bake_prompt(backbone.tokenizer, config.template, max_length=max_length).save_pretrained(folder)
    from transformers import AutoTokenizer

    reloaded = AutoTokenizer.from_pretrained(folder)
    check_prompt(reloaded, prompt_ids(backbone.tokenizer, config.template))
