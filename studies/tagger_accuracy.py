"""How well taggers find the words that data-driven targets keep: nouns, proper nouns and adjectives of UD English-EWT.

    python studies/tagger_accuracy.py

Taggers read the raw text of every sentence. A word counts as found when a kept span covers all of it. Writes
``tagger_accuracy.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfembed.ground.environment import environment
from selfembed.ground.files import write_json
from selfembed.targets.tagger import Tagger, load_tagger

KEPT = ("NOUN", "PROPN", "ADJ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with ud/ and en_ewt_sm-0.1/")
    parser.add_argument("--taggers", nargs="+", help="default: hanta and the pipeline in the data folder")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    arguments = parser.parse_args()
    sentences = list(read_conllu(arguments.data / "ud" / "en_ewt-ud-test.conllu"))
    rows = [
        score(load_tagger(name), sentences)
        for name in arguments.taggers or ["hanta", str(arguments.data / "en_ewt_sm-0.1")]
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "tagger_accuracy.json"
    write_json(file, {"sentences": len(sentences), "environment": environment(), "taggers": rows})
    lines = [
        "# Taggers on UD English-EWT (test)",
        "",
        f"Words that are noun, proper noun or adjective, as one class, in {len(sentences):,} sentences of raw text.",
        "",
        "| tagger | precision | recall | F1 | names kept | names called names | words/s, one process |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['tagger']} | {row['precision']:.1%} | {row['recall']:.1%} | {row['f1']:.1%} "
        f"| {row['names_kept']:.1%} | {row['names_called_names']:.1%} | {row['words_per_second']:,} |"
        for row in rows
    ]
    text = "\n".join(lines) + "\n"
    file.with_suffix(".md").write_text(text)
    print(text)


def read_conllu(file: Path) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """Sentences as text and the spans of their words with universal tags; words of a contraction share its span."""
    for block in file.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.splitlines()
        text = next(line.removeprefix("# text = ") for line in lines if line.startswith("# text = "))
        spans, position, whole = [], 0, (0, 0, 0)
        for line in lines:
            fields = line.split("\t")
            if line.startswith("#") or "." in fields[0]:
                continue
            if "-" in fields[0]:  # a contraction: its parts follow
                start = text.index(fields[1], position)
                position = start + len(fields[1])
                whole = (start, position, int(fields[0].split("-")[1]))
                continue
            if int(fields[0]) <= whole[2]:
                spans.append((whole[0], whole[1], fields[3]))
                continue
            start = text.index(fields[1], position)
            position = start + len(fields[1])
            spans.append((start, position, fields[3]))
        yield text, spans


def score(tagger: Tagger, sentences: list[tuple[str, list[tuple[int, int, str]]]]) -> dict[str, Any]:
    """Precision, recall and F1 over words, judged by their characters."""
    next(iter(tagger.tag(["Warm up."])))
    started = time.perf_counter()
    tagged = list(tagger.tag([text for text, _ in sentences]))
    seconds = time.perf_counter() - started
    hits = wanted = wrong = names = names_kept = names_named = 0
    for (_, gold), found in zip(sentences, tagged, strict=True):
        gold_characters = characters(gold, KEPT)
        found_characters = characters(found, KEPT)
        named = characters(found, ("PROPN",))
        words = [set(range(start, end)) for start, end, tag in gold if tag in KEPT]
        wanted += len(words)
        hits += sum(word <= found_characters for word in words)
        wrong += sum(tag in KEPT and not set(range(start, end)) <= gold_characters for start, end, tag in found)
        own = [set(range(start, end)) for start, end, tag in gold if tag == "PROPN"]
        names += len(own)
        names_kept += sum(word <= found_characters for word in own)
        names_named += sum(word <= named for word in own)
    precision, recall = hits / (hits + wrong), hits / wanted
    return {
        "tagger": tagger.name,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "names_kept": names_kept / names,
        "names_called_names": names_named / names,
        "words_per_second": round(sum(len(gold) for _, gold in sentences) / seconds),
    }


def characters(spans: list[tuple[int, int, str]], tags: tuple[str, ...]) -> set[int]:
    return {i for start, end, tag in spans if tag in tags for i in range(start, end)}


if __name__ == "__main__":
    main()
