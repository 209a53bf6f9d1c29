"""A writer: a language model that writes the search query that a passage answers.

Shapes: B batch, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from selfembed.errors import InputError
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import Backbone, best_dtype, load_backbone
from selfembed.model.prompt import padding_token, prompt_ids, text_backend
from selfembed.model.ready_embedder import is_ready

PASSAGE_TOKENS, QUERY_TOKENS = 128, 24  # read of a passage, and written, at most
_BATCH, _CPU_BATCH = 128, 16  # passages that are written for at once
_FORMAT = 1  # part of every key: raise it when what is written changes

_EXAMPLES = (
    (
        "Bread rises because yeast turns sugar into gas. A warm kitchen speeds this up; in a refrigerator the dough "
        "needs a whole night, and tastes better for it.",
        "why does dough rise slowly in the refrigerator",
    ),
    (
        "The library opens at nine on weekdays and at ten on Saturdays. Members may borrow six books for three weeks "
        "and renew them twice by telephone.",
        "how long can library books be borrowed",
    ),
    (
        "A lever moves a heavy load with little force: the farther from the pivot the hand pushes, the less force is "
        "needed, but the longer is the way.",
        "lever distance from pivot and force",
    ),
)
_REQUEST = "Write a short search query that this passage answers. Reply with the query alone.\n\n"
_LIST_MARKS = re.compile(r"(?:[-*•–>#]+|\(?\d{1,2}[.)])\s+")
_LABEL = re.compile(r"(?:search\s+)?(?:query|question|q)\s*\d*\s*[:：]\s*", re.IGNORECASE)
_QUOTES = "\"'`“”„‘’«»*_ \t"


def find_writer(name: str | None, backbone: Backbone) -> Backbone:
    """Finds the language model that writes queries.

    Args:
        name: The model, as :func:`selfembed.model.backbone.load_backbone` takes it; None takes the backbone itself.
        backbone: The language model that is trained.

    Raises:
        InputError: There is no such model, or it is no causal language model with all of its weights.
    """
    if name is None:
        return backbone
    try:
        if is_ready(name):
            raise InputError(f"model {name}: an embedder, which writes nothing; expected a causal language model")
        return load_backbone(name, trust_remote_code=backbone.trust_remote_code)
    except InputError as error:
        raise InputError(f"writer{str(error).removeprefix('model')}") from error


def writing_key(writer: Backbone, device: Any) -> list[Any]:
    """Collects what :func:`write_queries` depends on besides the passages, code aside."""
    tokenizer = [writer.tokenizer_key, writer.tokenizer.chat_template]
    numbers = [PASSAGE_TOKENS, QUERY_TOKENS, _REQUEST, _EXAMPLES]
    return [_FORMAT, writer.fingerprint, *tokenizer, *numbers, str(best_dtype(device)), torch.device(device).type]


def write_queries(
    writer: Backbone, passages: Sequence[str], *, device: Any = "cpu", progress: Progress = silent
) -> list[str]:
    """Writes a search query for each passage, token by token the most probable one.

    A model with a chat template is asked in it, with three examples as earlier turns; any other goes on from the same
    examples. It is loaded in the best dtype of the device, and let go of when all is written.

    Args:
        writer: The language model.
        passages: The passages, of which the first 128 tokens are read.
        device: Where it writes.
        progress: Called with (task, done, total).

    Returns:
        The first line of what was written for each passage, 24 tokens at most, without quotes, list marks and labels;
        "" where nothing was.

    References:
        InPars (arXiv 2202.05144) and Promptagator (arXiv 2209.11755), which give a few examples too.
    """
    tokenizer = writer.tokenizer
    around = prompt_ids(tokenizer, writing_prompt(tokenizer))
    before = around.before[1:] if around.before[:2] == (tokenizer.bos_token_id,) * 2 else around.before
    encoded = text_backend(tokenizer).encode_batch(list(passages), add_special_tokens=False)
    ids = [[*before, *one.ids[:PASSAGE_TOKENS], *around.after] for one in encoded]
    rows = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    size = _CPU_BATCH if torch.device(device).type == "cpu" else _BATCH
    model = writer.load(best_dtype(device)).to(device).eval()
    pad_id = tokenizer.convert_tokens_to_ids(padding_token(tokenizer))
    ends = {tokenizer.eos_token_id, *_listed(model.generation_config.eos_token_id)} - {None}
    settings = GenerationConfig(
        max_new_tokens=QUERY_TOKENS,
        do_sample=False,
        use_cache=True,
        pad_token_id=pad_id,
        eos_token_id=sorted(ends) or None,
    )
    written = [""] * len(ids)
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            progress("writing queries", start, len(rows))
            part = rows[start : start + size]
            longest = len(ids[part[0]])
            ids_BT = torch.tensor([[pad_id] * (longest - len(ids[row])) + ids[row] for row in part])
            mask_BT = torch.tensor([[0] * (longest - len(ids[row])) + [1] * len(ids[row]) for row in part])
            found_BT = model.generate(ids_BT.to(device), attention_mask=mask_BT.to(device), generation_config=settings)
            texts = tokenizer.batch_decode(found_BT[:, longest:], skip_special_tokens=True)
            for row, text in zip(part, texts, strict=True):
                written[row] = cleaned(text)
    progress("writing queries", len(rows), len(rows))
    return written


def writing_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    """Gives what a writer is told, with `{text}` where the passage goes."""
    if not tokenizer.chat_template:
        shown = "".join(f"Passage: {passage}\nQuery: {query}\n\n" for passage, query in _EXAMPLES)
        return f"{shown}Passage: {{text}}\nQuery:"
    turns = [
        {"role": role, "content": content}
        for passage, query in _EXAMPLES
        for role, content in (("user", _REQUEST + passage), ("assistant", query))
    ]
    turns.append({"role": "user", "content": f"{_REQUEST}{{text}}"})
    # Qwen3's template knows that option: a query needs no thinking, which would take up all tokens
    told: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return told


def cleaned(written: str) -> str:
    """Takes the first line that is not empty, without quotes, list marks and a label such as "Query:" around it."""
    line = next((line for line in written.splitlines() if line.strip(_QUOTES)), "").strip(_QUOTES)
    before = None
    while line != before:
        before = line
        for mark in (_LIST_MARKS, _LABEL):
            found = mark.match(line)
            line = (line[found.end() :] if found else line).strip(_QUOTES)
    return line


def _listed(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]
