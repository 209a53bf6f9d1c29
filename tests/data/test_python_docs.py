"""The embedded corpus: prose of this Python, and docstrings held out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfembed.data import python_docs as module
from selfembed.data.corpus import Corpus
from selfembed.data.python_docs import DocstringPair, docstring_pairs, help_pages, python_docs, split_pairs
from selfembed.errors import InputError


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(python_docs())


def test_python_docs(texts: list[str]) -> None:
    assert texts == list(python_docs())
    assert len(texts) > 5_000 and sum(map(len, texts)) > 1_000_000
    assert len(set(texts)) == len(texts)
    assert all(len(text.split()) >= 8 and "\n" not in text and ">>>" not in text[:3] for text in texts)
    corpus = Corpus("python-docs", limit=50)
    assert list(corpus)[0] in texts[0] and len(corpus) == 50


def test_held_out_docs_are_left_out(texts: list[str]) -> None:
    train, held = split_pairs(docstring_pairs(), 200, seed=3)
    rest = list(python_docs(held_out=[pair.qualified_name for pair in held]))
    assert 0.8 * len(texts) < len(rest) < len(texts)
    joined = "\n".join(rest).casefold()
    for pair in held:
        assert pair.body.casefold() not in joined
    inside = "\n".join(pair.body for pair in held).casefold()
    assert not any(text.casefold() in inside for text in rest)
    with pytest.raises(InputError, match="held_out 'no.such'"):
        next(python_docs(held_out=["no.such"]))


def test_docstring_pairs() -> None:
    pairs = docstring_pairs()
    assert len(pairs) > 1_000
    for values in zip(*((pair.qualified_name, pair.summary, pair.body) for pair in pairs), strict=True):
        assert len(set(values)) == len(values)
    assert all(4 <= len(pair.summary.split()) <= 40 and len(pair.body.split()) >= 15 for pair in pairs)
    assert not any(pair.summary.rstrip(".").lower() in pair.body.lower() for pair in pairs)
    assert all(pair.qualified_name.startswith(pair.module) for pair in pairs)


def test_split_pairs_by_module() -> None:
    pairs = [DocstringPair(f"m{number % 10}.f{number}", "s", "b", f"m{number % 10}") for number in range(100)]
    train, held = split_pairs(pairs, 30, seed=1)
    assert (len(train), len(held)) == (70, 30) and not {p.module for p in train} & {p.module for p in held}
    assert (train, held) == split_pairs(pairs, 30, seed=1) != split_pairs(pairs, 30, seed=2)
    train, held = split_pairs(pairs, 34)
    assert len(held) == 34 and sorted([*train, *held], key=pairs.index) == pairs
    assert len({p.module for p in train} & {p.module for p in held}) == 1
    for count in (0, 100):
        with pytest.raises(InputError, match="n_held_out"):
            split_pairs(pairs, count)


def test_stdlib_is_parsed_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "The first of them is told apart from the others by its name."
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "x.py").write_text(f'"""{long}"""')
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "good.py").write_text(
        f'"""Say what this is.\n\n{long}\n\n>>> code()\nof no use to anybody at all, in that it is shown\n\n'
        'See :class:`~a.B` and ``this`` of *that* for **what** it is in::\n"""\n'
        "raise SystemExit\nif 1:\n class A:\n  async def f(self):\n   'It is the one that is found in the class.'\n"
    )
    monkeypatch.setattr(module.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setattr(module, "_topics", lambda: {"lambda": ["Small anonymous functions."]})
    monkeypatch.setattr(module, "_docstrings", module._docstrings.__wrapped__)  # the others keep what they have parsed
    assert help_pages(words=3) == {"good": "Say what this", "topic: lambda": "Small anonymous functions."}
    monkeypatch.setattr(module, "_topics", dict)
    assert list(python_docs()) == [
        long,
        "See a.B and this of that for what it is in:",
        "It is the one that is found in the class.",
    ]
    assert list(python_docs(held_out=["good.A.f"]))[-1].startswith("See")
    [pair] = docstring_pairs()
    assert (pair.qualified_name, pair.module, pair.summary) == ("good", "good", "Say what this is.")
    assert pair.body.startswith(long)


def test_titled_paragraphs_are_those_of_the_corpus_by_document():
    held = [pair.qualified_name for pair in module.docstring_pairs()[:3]]
    rows = list(module.titled_python_docs(held_out=held))
    assert sorted(row["text"] for row in rows) == sorted(module.python_docs(held_out=held))
    titles = [row["title"] for row in rows]
    runs = sum(one != other for one, other in zip(titles, titles[1:], strict=False)) + 1
    assert runs < 1.1 * len(set(titles)), "the paragraphs of one title come together, names that come twice aside"
