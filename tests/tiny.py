"""Tiny random decoders, tokenizers and sentences for the tests: made in memory, nothing is downloaded.

A tokenizer of any kind has its special tokens first (`BOS_ID`, `EOS_ID`, `PAD_ID`) and at most `VOCAB_SIZE` tokens, so
every `tiny_model` can read what every `tiny_tokenizer` writes.
"""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCAB_SIZE = 640
BOS, EOS, PAD, UNKNOWN = "<|bos|>", "<|eos|>", "<|pad|>", "<|unk|>"
BOS_ID, EOS_ID, PAD_ID, UNKNOWN_ID = range(4)

# A large initializer range: with the usual 0.02 hardly anything flows through two layers of width 32.
_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "use_cache": False,
}
_DROPOUT_FREE: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

# What each family needs beyond `_COMMON`; None takes a key away.
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 64},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64, "final_logit_softcapping": 0.5},
    "gemma3": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "phi3": {},
    "olmo2": {},
    "gpt2": {
        **_DROPOUT_FREE,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 64,
        "n_positions": 512,
        **dict.fromkeys(
            (
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "intermediate_size",
                "max_position_embeddings",
            )
        ),
    },
    "gpt_neox": {"num_key_value_heads": None, "hidden_dropout": 0.0},
    "opt": {
        "ffn_dim": 64,
        "word_embed_proj_dim": 32,
        "dropout": 0.0,
        "init_std": 0.15,
        "intermediate_size": None,
        "num_key_value_heads": None,
        "initializer_range": None,
    },
    "stablelm": {},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
    "hyperclovax": {"logits_scaling": 0.25},
    "gpt_neo": {
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 64,
        **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads")),
    },
}
FAMILIES: tuple[str, ...] = tuple(_FAMILIES)
# The families whose models take the official switch; GPT-Neo does not.
BIDIRECTIONAL_FAMILIES: tuple[str, ...] = tuple(family for family in FAMILIES if family != "gpt_neo")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

SENTENCES: list[str] = [
    "The old lighthouse keeper in Brittany repaired his wooden boat before the winter storms.",
    "Marie Curie discovered radium in a cold laboratory in Paris.",
    "A red fox crossed the frozen river near Helsinki at dawn.",
    "Fresh bread from the small bakery smells better than any expensive perfume.",
    "The parliament in Nairobi passed a new law on clean drinking water.",
    "Quantum computers may one day break the ciphers that protect our banks.",
    "My grandmother grows purple tomatoes and bitter cucumbers behind her house.",
    "The violin concerto by Sibelius demands a patient and fearless soloist.",
    "Heavy rain flooded the railway tunnel between Lyon and Turin.",
    "Doctors in Mumbai tested a cheap vaccine against malaria.",
    "The young goalkeeper saved two penalties in the final against Brazil.",
    "Volcanic ash from Iceland closed the busy airports of northern Europe.",
    "An honest judge refused the silver watch of the rich merchant.",
    "Coffee prices rose sharply after the dry summer in Colombia.",
    "The museum in Cairo displays a golden mask and a broken clay bowl.",
    "Penguins share their warmth in tight circles on the Antarctic ice.",
    "Alan Turing described a universal machine with an endless paper tape.",
    "The lazy cat slept on a warm keyboard while the programmer made tea.",
    "Solar panels on the roof of the school pay for new books.",
    "A quiet librarian in Prague collects rare maps of imaginary islands.",
    "The central bank raised the interest rate to fight stubborn inflation.",
    "Wild salmon swim up the Columbia River to the streams of their birth.",
    "The tailor from Naples sewed a blue coat with ivory buttons.",
    "Saturn has bright rings made of ice, dust and small rocks.",
    "Ancient Rome built straight roads, public baths and long stone aqueducts.",
    "The nurse measured the fever of the tired child every hour.",
    "Bicycles are faster than cars in the narrow streets of Amsterdam.",
    "A clever spider repaired its silver web between two rusty nails.",
    "The chess champion from Norway lost a rook and still won the game.",
    "Farmers in Kenya send the price of maize to each other by telephone.",
    "The telescope in Chile found a distant planet with a thick atmosphere.",
    "Ludwig van Beethoven wrote his ninth symphony when he was deaf.",
    "The hungry wolf followed the sheep along the dusty mountain path.",
    "A broken pump stopped the nuclear reactor for three long weeks.",
    "The poet from Lisbon compared the ocean to a sleeping animal.",
    "Engineers in Tokyo designed a flexible bridge that survives strong earthquakes.",
    "The bitter chocolate of this Belgian shop contains orange and pepper.",
    "Elephants remember dry wells and the calls of their lost relatives.",
    "The lawyer explained the difficult contract to her nervous client.",
    "A sudden avalanche buried the ski lift above Innsbruck.",
    "The compiler reported a missing bracket in the last line of the file.",
    "Children in Oslo built a tall snow castle with crooked towers.",
    "The old piano in the empty theatre was out of tune.",
    "Antibiotics kill bacteria but are useless against a virus.",
    "The Amazon forest loses thousands of ancient trees every single day.",
    "A blind musician in Dakar tuned the strings of his wooden kora.",
    "The cheap printer at the office jams whenever the paper is thin.",
    "Isaac Newton watched an apple fall and thought about the Moon.",
    "The spicy soup at the market in Hanoi cured my terrible cold.",
    "Electric buses made the noisy avenue in Bogota quiet again.",
    "The detective found a torn letter under the carpet of the hotel.",
    "Honey bees dance to show their sisters where the sweet flowers are.",
    "The stubborn mayor of Vienna planted lime trees along the grey canal.",
    "A retired teacher translated Icelandic sagas into simple English.",
    "The submarine cable between Portugal and Brazil carries enormous streams of data.",
    "Black holes bend light and slow down distant clocks.",
    "The cook sharpened a heavy knife and sliced the green onions.",
    "A strict referee sent the angry captain off the muddy field.",
    "The glass factory in Murano keeps its recipes secret.",
    "Migrating cranes rest for a week on the shallow lakes of Hungary.",
]


def training_sentences() -> list[str]:
    """`SENTENCES` and some three hundred more of one pattern: enough to train a small tokenizer on."""
    who = ("the teacher", "a young doctor", "the old farmer", "her brother", "an engineer", "the mayor", "my friend")
    does = ("found", "painted", "sold", "carried", "described", "repaired", "forgot")
    what = (
        "a green door",
        "the small engine",
        "two wooden chairs",
        "an important letter",
        "the broken window",
        "a bowl of soup",
    )
    return SENTENCES + [f"{subject.capitalize()} {verb} {thing}." for subject, verb, thing in product(who, does, what)]


def tiny_config(family: str, *, tied: bool | None = None, vocab_size: int = VOCAB_SIZE, **overrides: Any) -> Any:
    """The configuration of a `tiny_model`; `overrides` go into it as they are."""
    known = {**_COMMON, **_FAMILIES[family], **overrides}
    if tied is not None:
        known["tie_word_embeddings"] = tied
    config = AutoConfig.for_model(
        "gemma3_text" if family == "gemma3" else family,
        vocab_size=vocab_size,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        **{key: value for key, value in known.items() if value is not None},
    )
    return config


def tiny_model(
    family: str,
    *,
    tied: bool | None = None,
    seed: int = 0,
    bidirectional: bool = False,
    vocab_size: int = VOCAB_SIZE,
    **overrides: Any,
) -> PreTrainedModel:
    """A random `AutoModelForCausalLM` of one of `FAMILIES`: 2 layers, width 32, 4 heads, float32, in eval mode.

    Args:
        family: a member of `FAMILIES`.
        tied: whether input and output embeddings are one tensor; None leaves it to the family.
        seed: of the weights; the global generator is left as it was.
        bidirectional: set bidirectional attention (not proven: that is the tests' business).
        vocab_size: rows of the embedding.
        **overrides: further entries of the configuration, such as `num_hidden_layers=4`.
    """
    config = tiny_config(family, tied=tied, vocab_size=vocab_size, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
    if bidirectional:
        from selfembed.model.attention import set_attention

        set_attention(model, "bidirectional")
    return model


def tiny_tokenizer(
    kind: Literal["bpe", "unigram", "wordlevel"] = "bpe",
    *,
    with_bos: bool = False,
    with_pad: bool = True,
    chat_template: bool = False,
    **kwargs: Any,
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on `training_sentences()`, of at most `VOCAB_SIZE` tokens.

    Args:
        kind: "bpe" is byte-level and reads anything; "unigram" and "wordlevel" have an unknown token.
        with_bos: its post-processor puts `BOS` in front.
        with_pad: whether it declares a padding token. The token keeps its place in the vocabulary either way.
        chat_template: whether it carries one.
        **kwargs: further entries of `tokenizer_config.json`, such as `add_bos_token=True`.
    """
    special = [BOS, EOS, PAD] + ([] if kind == "bpe" else [UNKNOWN])
    trainer: trainers.Trainer
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=VOCAB_SIZE, special_tokens=special, unk_token=UNKNOWN, show_progress=False
        )
    elif kind == "wordlevel":
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(vocab_size=VOCAB_SIZE, special_tokens=special, show_progress=False)
    else:
        raise ValueError(f"kind is {kind!r}; expected bpe, unigram or wordlevel")
    tokenizer.train_from_iterator(training_sentences(), trainer)
    if with_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
        )
    declared = {"bos_token": BOS, "eos_token": EOS}
    if kind != "bpe":
        declared["unk_token"] = UNKNOWN
    if with_pad:
        declared["pad_token"] = PAD
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **declared, **kwargs)
    if chat_template:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def save_tiny(
    family: str, path: str | Path, *, tokenizer: PreTrainedTokenizerFast | None = None, **model_options: Any
) -> Path:
    """Save a `tiny_model` with a tokenizer (by default `tiny_tokenizer()`) into one folder, as on the Hub.

    The model is as `tiny_model(family, **model_options)` makes it. Returns the folder.
    """
    path = Path(path)
    tiny_model(family, **model_options).save_pretrained(path)
    (tokenizer or tiny_tokenizer()).save_pretrained(path)
    return path


def save_tiny_embedder(
    family: str,
    path: str | Path,
    *,
    dense: bool = False,
    max_length: int | None = 40,
    prompts: dict[str, str] | None = None,
    include_prompt: bool = True,
    seed: int = 0,
) -> Path:
    """Save a tiny sentence-transformers folder, as a ready embedder comes: with a pooler, and a dropout of its own.

    Args:
        family: "bert", an encoder with a mean; or one of `FAMILIES`, read by its last token and padded on the left.
        path: The folder, which is returned.
        dense: whether a Dense that halves the width stands before the normalisation.
        max_length: tokens of an input; None leaves it to the tokenizer.
        prompts: by name.
        include_prompt: whether the pooling takes the prompt's tokens in.
        seed: of the weights; the global generator is left as it was.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    path = Path(path)
    encoder = family == "bert"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if encoder:
            sizes = {key: _COMMON[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
            config = BertConfig(
                **sizes,
                intermediate_size=64,
                vocab_size=VOCAB_SIZE,
                max_position_embeddings=64,
                initializer_range=0.15,
                pad_token_id=PAD_ID,
            )
            BertModel(config).save_pretrained(path / "raw")
            tiny_tokenizer(with_bos=True).save_pretrained(path / "raw")
        else:
            tiny_model(family, seed=seed).base_model.save_pretrained(path / "raw")
            tiny_tokenizer(padding_side="left").save_pretrained(path / "raw")
        transformer = Transformer(str(path / "raw"))
        width = transformer.get_embedding_dimension()
        pooling = Pooling(width, pooling_mode="mean" if encoder else "lasttoken", include_prompt=include_prompt)
        more = [Dense(width, width // 2, activation_function=torch.nn.Tanh())] if dense else []
        embedder = SentenceTransformer(
            modules=[transformer, pooling, *more, Normalize()], prompts=prompts, device="cpu"
        )
    if max_length is not None:
        embedder.max_seq_length = max_length
    embedder.save(str(path / "ready"), create_model_card=False)
    shutil.rmtree(path / "raw")
    for file in (path / "ready").iterdir():
        file.rename(path / file.name)
    (path / "ready").rmdir()
    return path


def of_one_length(vectors_ND: np.ndarray) -> np.ndarray:
    """What the LayerNorm behind an affine map makes of its vectors, torch's epsilon included."""
    centred_ND = vectors_ND - vectors_ND.mean(1, keepdims=True)
    deviation_N1 = np.sqrt((centred_ND**2).mean(1, keepdims=True) + 1e-5)
    return 4.0 / vectors_ND.shape[1] ** 0.5 * centred_ND / deviation_N1
