"""A writer: what it is told, what is kept of what it says, and that neither batches nor padding change a query."""

from __future__ import annotations

import pytest
import torch
from tiny import SENTENCES, save_tiny, save_tiny_embedder, tiny_tokenizer

from selfembed import InputError, load_backbone
from selfembed.model import writer as writing
from selfembed.model.writer import cleaned, find_writer, write_queries, writing_key, writing_prompt

PASSAGES = [SENTENCES[0], " ".join(SENTENCES[1:5]), SENTENCES[5], " ".join(SENTENCES[6:30])]


@pytest.fixture(scope="module", params=[False, True], ids=["base", "chat"])
def writer(request, tmp_path_factory):
    tokenizer = tiny_tokenizer(with_bos=True, chat_template=request.param)
    return load_backbone(save_tiny("llama", tmp_path_factory.mktemp("writer") / "model", tokenizer=tokenizer))


def test_what_it_is_told(writer):
    told = writing_prompt(writer.tokenizer)
    assert told.count("{text}") == 1 and "how long can library books be borrowed" in told
    if writer.tokenizer.chat_template:
        assert told.startswith("<|user|>\nWrite a short search query") and told.endswith("{text}\n<|assistant|>\n")
    else:
        assert told.endswith("\n\nPassage: {text}\nQuery:")


def test_batches_and_padding_change_nothing(writer, monkeypatch):
    monkeypatch.setattr(writing, "best_dtype", lambda device: torch.float32)
    monkeypatch.setattr(writing, "cleaned", lambda text: text)
    told = []
    together = write_queries(writer, PASSAGES, progress=lambda *news: told.append(news))
    assert told == [("writing queries", 0, 4), ("writing queries", 4, 4)]
    monkeypatch.setattr(writing, "_CPU_BATCH", 1)
    assert write_queries(writer, PASSAGES) == together
    assert len(set(together)) > 1, "the passage is read"
    assert write_queries(writer, [PASSAGES[3], PASSAGES[3] + " More."])[1] == together[3], "and cut"


def test_only_what_is_written_decides_its_name_in_the_cache(writer, tmp_path):
    same = load_backbone(writer.folder)
    assert writing_key(same, "cpu") == writing_key(writer, "cpu")
    other = load_backbone(save_tiny("llama", tmp_path / "other", seed=1))
    assert writing_key(other, "cpu") != writing_key(writer, "cpu")


@pytest.mark.parametrize(
    ("written", "query"),
    [
        (" why is the sky blue\n\nPassage: The", "why is the sky blue"),
        ('\n  "why is the sky blue"\n', "why is the sky blue"),
        ("1. **Query: why is the sky blue?**", "why is the sky blue?"),
        ("- Search query 1: “why is the sky blue”", "why is the sky blue"),
        ("Question: 7 wonders of the world", "7 wonders of the world"),
        ("3D printing at home", "3D printing at home"),
        ("questions of law", "questions of law"),
        (' \n""\n', ""),
    ],
)
def test_what_is_kept_of_it(written, query):
    assert cleaned(written) == query


def test_who_writes(writer, tmp_path):
    assert find_writer(None, writer) is writer
    assert find_writer(str(writer.folder), writer).folder == writer.folder
    with pytest.raises(InputError, match="^writer no/where: no such folder or file"):
        find_writer("no/where", writer)
    ready = save_tiny_embedder("bert", tmp_path / "ready")
    with pytest.raises(InputError, match="^writer .*: an embedder, which writes nothing; expected a causal"):
        find_writer(str(ready), writer)
    (ready / "modules.json").unlink()
    with pytest.raises(InputError, match="^writer .*: bert is not a decoder-only language model"):
        find_writer(str(ready), writer)
