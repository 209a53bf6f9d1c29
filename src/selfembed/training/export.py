"""A trained embedder becomes a sentence-transformers folder: merged, saved, loaded again and compared.

All of it is stock but the pooling over several memory tokens, which the folder brings along.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from transformers import PreTrainedModel

from selfembed.calibration.affine_map import AffineMap, without_map
from selfembed.errors import InputError, TrainingDiverged
from selfembed.ground.files import arriving_folder, write_json
from selfembed.model.attention import probe_attention
from selfembed.model.backbone import Backbone
from selfembed.model.checkpoint import HEAD
from selfembed.model.embedder import embedding_config, fitting_length, load_embedder, save_tokenizer
from selfembed.model.folder import RECORD, RunRecord
from selfembed.model.memory_tokens import memory_embedding, write_memory
from selfembed.model.pooling import TYPE, MemoryPooling
from selfembed.model.stored_weights import store_weights, stored_dtype
from selfembed.recipes import Recipe
from selfembed.training.card import model_card

# Smaller backbones are merged and computed in float32: a merged update is finer than what bfloat16 can hold.
_FLOAT32_PARAMETERS = 2_000_000_000
_CHECK_TEXTS = [
    "River.",
    "The council of the old harbour town met on Tuesday to speak about the bridge.",
    "A short note, with punctuation: (1) yes; (2) no!",
    "Long texts are cut at the end, never in the prompt. " * 200,
]
_REQUIREMENTS = {
    "transformers": {"specifier": ">=5.2", "reason": "older versions ignore is_causal in config.json"},
    "sentence-transformers": {"specifier": ">=6.0", "reason": "the folder is in its format"},
}


def export_embedder(
    trained: SentenceTransformer,
    backbone: Backbone,
    recipe: Recipe,
    record: RunRecord,
    out: Path,
    *,
    weights: Backbone | None = None,
    affine_map: AffineMap | None = None,
    saved_dtype: str = "auto",
) -> SentenceTransformer:
    """Merges the adapter into freshly loaded weights, saves, reloads and compares.

    Args:
        trained: The embedder with its adapter; what stands behind its decoder is taken over as it is.
        backbone: The backbone that it was trained from.
        recipe: The recipe that it was trained by.
        record: The record of the run, which goes into the folder as `selfembed.json`.
        out: Folder to make.
        weights: Weights that the adapter is merged into; None takes the backbone's.
        affine_map: Map that goes behind all of it; None, or one that changes nothing, leaves it out.
        saved_dtype: Dtype of the weights on disk, one of :data:`selfembed.model.stored_weights.STORED_DTYPES`.
            Backbones below two billion parameters compute in float32 all the same; of larger ones, which compute as
            they are stored, `"auto"` keeps the backbone's own dtype.

    Returns:
        The embedder as loaded from `out`.

    Raises:
        InputError: The folder cannot be written, or its vectors differ from those of the model in memory.
        TrainingDiverged: The vectors are zero or not finite.
    """
    config = recipe.embedder
    assert config is not None
    length = fitting_length(backbone, config, recipe.embed_length)
    trained.max_seq_length = length
    expected = sound_vectors(without_map(trained))
    after = [] if affine_map is None or affine_map.changes_nothing else affine_map.modules()
    out.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(out) as staging:
        merged = merge(trained, weights or backbone, staging / "adapter")
        merged.config.update(embedding_config(backbone, config).to_dict())
        if config.memory_tokens:
            write_memory(merged, memory_embedding(trained))
        stored = stored_dtype(merged, saved_dtype)
        if merged.dtype != torch.float32:
            merged = merged.to(stored)
        dtype = merged.dtype
        merged.save_pretrained(staging)
        del merged  # one copy of the weights at a time
        save_tokenizer(backbone, config, staging, max_length=length)
        transformer = Transformer(str(staging), model_kwargs={"dtype": dtype})
        behind = copy.deepcopy([*trained.children()][1:]) + after
        embedder = SentenceTransformer(modules=[transformer, *behind], device="cpu")
        embedder.similarity_fn_name = "cosine"
        embedder.save(str(staging), create_model_card=False)
        del transformer, embedder
        name_pooling_in_folder(staging)
        settings_file = staging / "config_sentence_transformers.json"
        settings = json.loads(settings_file.read_text())
        write_json(settings_file, {**settings, "requirements": _REQUIREMENTS})
        (staging / "chat_template.jinja").unlink(missing_ok=True)
        if not backbone.tied:
            tensors = {f"lm_head.{name}": tensor.contiguous() for name, tensor in backbone.head().named_buffers()}
            save_file(tensors, staging / HEAD)
        if stored != dtype:
            store_weights(staging, stored)
        reloaded = load_embedder(staging, device="cpu")
        verdict = probe_attention(reloaded.transformers_model).verdict
        if verdict != config.attention:
            raise InputError(
                f"model {record.model}: the saved folder comes back {verdict}, expected {config.attention}: "
                f"{backbone.config.model_type} heeds its config only in part; nothing was saved; "
                "train with `attention='causal'`, or choose another backbone"
            )
        record = replace(
            record,
            saved_dtype=str(stored).removeprefix("torch."),
            cosine_to_model_in_memory=compare(expected, without_map(reloaded), trained, stored),
        )
        record.to_file(staging / RECORD)
        (staging / "README.md").write_text(model_card(recipe, record, [type(module).__name__ for module in reloaded]))
    return reloaded.to(trained.device)


def sound_vectors(trained: SentenceTransformer) -> np.ndarray:
    """Embeds a few texts, which the folder is held against later.

    Raises:
        TrainingDiverged: A vector is zero or not finite.
    """
    vectors_ND = trained.encode(_CHECK_TEXTS, batch_size=len(_CHECK_TEXTS), show_progress_bar=False)
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    if not np.isfinite(vectors_ND).all() or not np.abs(vectors_ND).sum(-1).all():
        raise TrainingDiverged(
            "training has diverged: the embedder gives vectors that are zero or not finite; nothing was saved; "
            "lower `learning_rate`, or use `dtype='float32'`"
        )
    return vectors_ND


def name_pooling_in_folder(folder: Path) -> None:
    """Makes modules.json name the copy of our pooling class that lies in the folder, not the one in this package."""
    file = folder / "modules.json"
    modules = json.loads(file.read_text())
    ours = f"{MemoryPooling.__module__}.{MemoryPooling.__name__}"
    named = [{**module, "type": module["type"].replace(ours, TYPE)} for module in modules]
    if named != modules:
        write_json(file, named)


def merged_backbone(trained: SentenceTransformer, weights: Backbone, folder: Path) -> Backbone:
    """Saves a backbone with the adapter added to its weights, for a stage that begins with a fresh adapter.

    Its decoder layer and memory vectors are not in it. A folder that is there already is taken as it is.
    """
    merged = Backbone(weights.name, folder, weights.trust_remote_code)
    if not folder.is_dir():
        with arriving_folder(folder) as staging:
            merge(trained, weights, staging / "adapter").save_pretrained(staging)
            weights.tokenizer.save_pretrained(staging)
    return merged


def merge(trained: SentenceTransformer, backbone: Backbone, folder: Path) -> PreTrainedModel:
    """Adds the adapter's update to freshly loaded weights; the model in memory is left alone."""
    size = sum(parameter.numel() for parameter in trained.parameters())
    dtype = torch.float32 if size < _FLOAT32_PARAMETERS else "auto"
    trained.transformers_model.save_pretrained(folder)
    kind = type(trained.transformers_model)  # AutoModel's choice, or for half of an encoder-decoder another
    fresh = kind.from_pretrained(backbone.folder, dtype=dtype)
    merged = PeftModel.from_pretrained(fresh, folder).merge_and_unload()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return merged


def compare(
    expected: np.ndarray, reloaded: SentenceTransformer, trained: SentenceTransformer, stored: torch.dtype
) -> float:
    """Measures the least cosine between the vectors of the model in memory and those of the folder, over a few texts.

    Raises:
        InputError: It is below 0.9999 in float32, or below 0.99 where the model in memory computes in bfloat16 or the
            folder's weights are stored in it.
    """
    actual = reloaded.encode(_CHECK_TEXTS, batch_size=2, show_progress_bar=False)
    actual = np.asarray(actual, dtype=np.float32)
    norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(actual, axis=-1)
    cosine = float(((expected * actual).sum(-1) / norms).min())
    exact = trained.dtype == reloaded.dtype == torch.float32 and stored != torch.bfloat16
    least = 0.9999 if exact else 0.99
    if not cosine >= least:
        raise InputError(
            f"the saved folder gives other vectors than the model in memory (cosine {cosine:.5f}, expected {least}); "
            "nothing was saved; use `saved_dtype='float32'`, and please report this with the model's name"
        )
    return round(cosine, 6)
