"""Corpora that were read right before reading was written anew keep their passages, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden import texts, write_inputs

from selfembed.data.corpus import Corpus

FINGERPRINTS = {
    "plain.txt": "27d715cc3bad74842d6aec7d9824884bb0546acc3cbc621709951e7596148d15",
    "plain.txt.gz": "27d715cc3bad74842d6aec7d9824884bb0546acc3cbc621709951e7596148d15",
    "plain.txt.zst": "27d715cc3bad74842d6aec7d9824884bb0546acc3cbc621709951e7596148d15",
    "marks.md": "250bf4841aa9afbd2f45c7480a66db2bab090f73ebf079ddf5781aca600696b0",
    "rules.rst": "d9dc2ce7f07a054779f65abeae9cf64136a6f93662157a7333d6b08a3ed2a628",
    "rows.jsonl": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "rows.jsonl.gz": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "rows.jsonl.zst": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "mixed.ndjson": "92360e46da707868de7f77f4136e2e254682df17abfd81231784b7f81125bd68",
    "rows.json": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "rows.csv": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "quoted.csv": "ed47751dbe013346a2ddf79879b7b8f8fba8a35fb0e422ce619562bcc3810a8f",
    "rows.tsv": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "quoted.tsv": "ed47751dbe013346a2ddf79879b7b8f8fba8a35fb0e422ce619562bcc3810a8f",
    "all-quoted.tsv": "ed47751dbe013346a2ddf79879b7b8f8fba8a35fb0e422ce619562bcc3810a8f",
    "rows.parquet": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "rows.parquet.gz": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "rows.parquet.zst": "6542504869cee71545461f3160f9849d11a8bb7bbb6044ea560f6b6f38612b89",
    "whole": "59cdc414c786e9e6625284e2f506db9baf88e8d0e795a2f5ba7f7b864a8fbc6d",
    "short": "1472263a62a55716dab59c8a8c004262c3ef66d00056966c9a4feca2b2b8e340",
}
FOLDER = "adba1c9c79bbf065999ea92c85b292e32b015226acd76c2b9f67c4fd5457756a"


def test_fingerprints(tmp_path: Path) -> None:
    files = write_inputs(tmp_path)
    assert {name: Corpus(file).fingerprint for name, file in files.items()} == {
        name: found for name, found in FINGERPRINTS.items() if name in files
    }
    assert len(files) == len(FINGERPRINTS) - 2
    assert Corpus(tmp_path).fingerprint == FOLDER


@pytest.mark.parametrize(("name", "words"), [("whole", None), ("short", 7)])
def test_fingerprints_of_other_sizes(name: str, words: int | None) -> None:
    assert Corpus(iter(texts()), passage_words=words).fingerprint == FINGERPRINTS[name]
