"""Inputs that were read right before reading was written anew, made from a seed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

_WORDS = {
    "english": (
        "the a bridge harbour, engineer's pier. cracked; (in) 1,000 years don't café e.g. Tokyo (東京) “quoted” — of"
    ),
    "russian": "старый мост в гавани закрыли, потому что его опоры треснули. ёлка",
    "arabic": "أغلق الجسر القديم في الميناء يوم الثلاثاء، لأن دعاماته تصدعت.",
    "hindi": "पुराना पुल मंगलवार को बंद कर दिया गया, क्योंकि उसके खंभे टूट गए थे।",
    "korean": "항구의 오래된 다리는 화요일에 폐쇄되었다. 기둥이 갈라졌기 때문이다.",
    "vietnamese": "cây cầu cũ ở cảng bị đóng vào thứ ba vì các trụ bị nứt",
}
_SPACES = (" ", "  ", "\t", "\u00a0", "\u2009", " \u200b ")


def texts() -> list[str]:
    """Texts of 1 to 700 words in scripts with spaces."""
    draw = random.Random(0)
    made = []
    for language, words in _WORDS.items():
        for length in (1, 7, 99, 100, 119, 120, 121, 350, 700):
            chosen = draw.choices(words.split(), k=length)
            made.append("".join(f"{word}{draw.choice(_SPACES)}" for word in chosen) + language)
    return made


def _table(delimiter: str, rows: list[list[str]], **options: object) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, **options).writerows(rows)
    return text.getvalue()


def write_inputs(folder: Path) -> dict[str, Path]:
    """Files of every kind, by name."""
    draw = random.Random(1)
    plain = texts()
    wrapped = "\n\n".join("\n".join(text[i : i + 70] for i in range(0, len(text), 70)) for text in plain)
    rows = [{"id": i, "title": f"Title {i // 3}", "text": text} for i, text in enumerate(plain)]
    mixed = [draw.choice([row, row["text"], {"text": None}, {"text": row["text"], "x": [1]}]) for row in rows]
    lines = [[str(row["id"]), row["text"]] for row in rows]
    quoted = [[str(i), f'He said "{text[:40]}", then\nleft'] for i, text in enumerate(plain)]
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([*rows, {"id": 99, "title": None, "text": None}]), parquet)
    contents: dict[str, str | bytes] = {
        "plain.txt": wrapped,
        "marks.md": "# A heading\n\n" + wrapped + "\n\n## Another\nwith text\n",
        "rules.rst": "Heading\n=======\n\n" + wrapped,
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "mixed.ndjson": "\n".join(json.dumps(row, ensure_ascii=False) for row in mixed),
        "rows.json": json.dumps(rows, indent=1),
        "rows.csv": _table(",", [["id", "text"], *lines]),
        "quoted.csv": _table(",", [["id", "text"], *quoted]),
        "rows.tsv": _table("\t", [["id", "text"], *[[i, text.replace("\t", " ")] for i, text in lines]]),
        "quoted.tsv": _table("\t", [["id", "text"], *quoted]),
        "all-quoted.tsv": _table("\t", [["id", "text"], *quoted], quoting=csv.QUOTE_ALL),
        "rows.parquet": parquet.getvalue(),
    }
    made = {}
    for name, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        for packed, pack in (("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress)):
            if packed and name not in ("plain.txt", "rows.jsonl", "rows.parquet"):
                continue
            made[name + packed] = folder / (name + packed)
            made[name + packed].write_bytes(pack(data))
    return made
