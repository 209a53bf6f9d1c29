"""Examines a backbone before anything is trained: attention, tokenizer, prompt, decoder layer, memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from selfembed.errors import InputError
from selfembed.model.attention import probe_attention
from selfembed.model.backbone import Backbone, best_dtype, load_backbone
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.model.prompt import backend_tokenizer, padding_token, prompt_ids
from selfembed.training.estimate import training_memory_gib

_TEXTS = ["River.", "The council of the old harbour town met on Tuesday to speak about the bridge."]


@dataclass(kw_only=True)
class Diagnosis:
    """What was found in a backbone.

    Attributes:
        model: The backbone as it was named.
        findings: What was found: a topic, a finding, and whether it is all right.
        causal: Whether the backbone can be used with causal attention.
        bidirectional: Whether the backbone can be used with bidirectional attention.
    """

    model: str
    findings: list[tuple[str, str, bool]] = field(default_factory=list)
    causal: bool = False
    bidirectional: bool = False

    def add(self, topic: str, finding: str, good: bool = True) -> None:
        """Notes a finding under a topic, and whether it is all right."""
        self.findings.append((topic, finding, good))

    @property
    def usable(self) -> bool:
        """Whether the backbone can be trained at all."""
        return self.causal and all(good for topic, _, good in self.findings if topic in ("prompt", "decoder layer"))

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if not self.usable:
            trouble = next(finding for _, finding, good in self.findings if not good)
            return f"{self.model}: not usable: {trouble}"
        if not self.bidirectional:
            return f"{self.model}: ready, with causal attention only"
        return f"{self.model}: ready, with causal or bidirectional attention"


def examine(model: str | Path, *, trust_remote_code: bool = False) -> Diagnosis:
    """Runs every check on a backbone: attention, tokenizer, prompt, decoder layer, memory to train.

    Args:
        model: A hub id, a folder or a GGUF file.
        trust_remote_code: Whether the backbone's own Python code may run.

    Returns:
        The findings, and whether the backbone can be used.


    Raises:
        InputError: There is no decoder-only language model at this place, or it cannot be used as an embedder.
    """
    backbone = load_backbone(model, trust_remote_code=trust_remote_code)
    diagnosis = Diagnosis(model=str(model))
    text_config = backbone.config.get_text_config()
    off = head_error(backbone)  # first these two, so that one model is in memory at a time
    against = why_not_bidirectional(backbone)
    embedder = build_causal(backbone, diagnosis)
    transformer = embedder.transformers_model
    parameters = sum(parameter.numel() for parameter in transformer.parameters())
    diagnosis.add(
        "backbone",
        f"{backbone.config.model_type}, {parameters / 1e6:,.1f} M parameters without its decoder layer, "
        f"{text_config.num_hidden_layers} layers, hidden size {embedder.get_embedding_dimension()}, "
        f"vocabulary {backbone.vocab_size:,}",
    )
    examine_attention(transformer, against, diagnosis)
    examine_tokenizer(backbone, diagnosis)
    examine_prompt(backbone, embedder, diagnosis)
    examine_head(backbone, embedder, off, diagnosis)
    examine_training_memory(backbone, parameters, diagnosis)
    return diagnosis


def build_causal(backbone: Backbone, diagnosis: Diagnosis) -> SentenceTransformer:
    """Builds the embedder with causal attention and notes that it can be built."""
    embedder = build_embedder(backbone, EmbedderConfig(), dtype=torch.float32, device="cpu")
    diagnosis.causal = True
    return embedder


def head_error(backbone: Backbone) -> tuple[float, float] | None:
    """Measures how far our decoder layer's probabilities are from the model's own; also returns the bound; or None."""
    try:
        head = backbone.head()
    except Exception:  # the reason is told when the layer is examined
        return None
    model: Any = backbone.load(head.dtype)
    ids_1T = torch.tensor([backend_tokenizer(backbone.tokenizer).encode(_TEXTS[-1]).ids])
    with torch.no_grad():
        hidden_1TD = model.base_model(ids_1T, use_cache=False).last_hidden_state
        own_1TV = model(ids_1T, use_cache=False).logits.float().softmax(-1)
        ours_1TV = head(hidden_1TD).softmax(-1)
    # A large layer is kept in the checkpoint's dtype, where a soft cap alone rounds by percents.
    return float((ours_1TV - own_1TV).abs().max()), 1e-3 if head.dtype == torch.float32 else 0.05


def why_not_bidirectional(backbone: Backbone) -> str | None:
    """Says what stands against bidirectional attention, or None; the model is loaded as a finished folder would be."""
    try:
        build_embedder(backbone, EmbedderConfig(attention="bidirectional"), dtype=torch.float32, device="cpu")
    except InputError as error:
        return str(error)
    return None


def examine_attention(transformer: torch.nn.Module, against: str | None, diagnosis: Diagnosis) -> None:
    """Probes which tokens see which, and whether padding on the right changes the vectors."""
    probe = probe_attention(transformer)
    diagnosis.add("leak probe, causal", "no token sees a later one", probe.verdict == "causal")
    diagnosis.bidirectional = against is None
    diagnosis.add("leak probe, bidirectional", against or "every token sees all others", against is None)
    side = "does not change the vectors" if probe.right_padding_invariant else "changes the vectors"
    diagnosis.add("right padding", side, probe.right_padding_invariant)


def examine_tokenizer(backbone: Backbone, diagnosis: Diagnosis) -> None:
    """Looks for the padding token, what the tokenizer puts in front of a text, and a chat template."""
    tokenizer = backbone.tokenizer
    backend_tokenizer(tokenizer)
    pad = padding_token(tokenizer)
    if tokenizer.pad_token is None:
        diagnosis.add("padding token", f"missing; {pad!r} is used")
    elif tokenizer.pad_token != pad:
        diagnosis.add("padding token", f"{tokenizer.pad_token!r} is also bos or eos; {pad!r} is used instead")
    else:
        diagnosis.add("padding token", repr(pad))
    ids = prompt_ids(tokenizer, "{text}")
    names = [tokenizer.decode([i]) for i in ids.before]
    diagnosis.add(
        "beginning of text", f"the tokenizer puts {' '.join(names)} in front" if names else "nothing in front"
    )
    if tokenizer.chat_template:
        diagnosis.add("chat template", "present; it is left out of embedders")


def examine_prompt(backbone: Backbone, embedder: SentenceTransformer, diagnosis: Diagnosis) -> None:
    """Compares the untrained embedder, saved and loaded with stock classes, with a forward pass by hand."""
    with tempfile.TemporaryDirectory() as folder:
        embedder.save(folder, create_model_card=False)
        vectors_BD = SentenceTransformer(folder, device="cpu").encode(_TEXTS)
    ids = prompt_ids(backbone.tokenizer, EmbedderConfig().template)
    cosines = []
    for text, vector_D in zip(_TEXTS, vectors_BD, strict=True):
        own = backend_tokenizer(backbone.tokenizer).encode(text, add_special_tokens=False).ids
        input_1T = torch.tensor([[*ids.before, *own, *ids.after]])
        with torch.no_grad():
            by_hand_D = embedder.transformers_model(input_1T).last_hidden_state[0, -1].numpy()
        norms = np.linalg.norm(by_hand_D) * np.linalg.norm(vector_D)
        cosines.append(float(by_hand_D @ vector_D / norms))
    good = min(cosines) >= 0.9999
    diagnosis.add(
        "prompt",
        f"saved and loaded, vectors equal a forward pass by hand (cosine {min(cosines):.6f})"
        if good
        else f"saved and loaded, vectors differ from a forward pass by hand (cosine {min(cosines):.4f})",
        good,
    )


def examine_head(
    backbone: Backbone, embedder: SentenceTransformer, off: tuple[float, float] | None, diagnosis: Diagnosis
) -> None:
    """Looks whether the decoder layer is there, fits the embeddings and gives the model's own probabilities."""
    try:
        weight_VD = backbone.head().weight
    except Exception as error:
        diagnosis.add("decoder layer", f"not found ({type(error).__name__})", False)
        return
    tie = "tied to the input embeddings" if backbone.tied else "separate from the input embeddings"
    fits = weight_VD.shape[1] == embedder.get_embedding_dimension()
    diagnosis.add("decoder layer", f"{weight_VD.shape[0]:,} x {weight_VD.shape[1]}, {tie}", fits)
    if off is not None and off[0] > off[1]:
        diagnosis.add(
            "decoder layer",
            f"probabilities are off the model's own by up to {off[0]:.2g}: {backbone.config.model_type} does more to "
            "its logits than we know; please report it",
            False,
        )


def examine_training_memory(backbone: Backbone, parameters: int, diagnosis: Diagnosis) -> None:
    """Estimates the memory that training takes."""
    dtype = best_dtype("cuda" if torch.cuda.is_available() else "cpu")
    gib = training_memory_gib(backbone, parameters, dtype, batch_size=64, tokens=64 * 128)
    diagnosis.add("training memory", f"about {gib:.1f} GiB to train at 64 texts of 128 tokens in {str(dtype)[6:]}")
