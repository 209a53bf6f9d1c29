"""Text2Token Fig. 5: temperature and size of the common sample of the model-derived stage, by itself.

    python studies/text2token_temperature.py --preset cpu

Writes ``text2token_temperature_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are
subsamples. No floor on Q, which recipe text2token-small has: the paper prints none. Where the temperature varies, the
common distribution is the preset's; where its sample varies, the temperature is the paper's, 1e-4.
"""

from __future__ import annotations

from findings import level, verdict
from variants import Study, Variant, command_line, run_quietly

FINDING = (
    "scores hardly depend on the temperature from 1e-2 to 1e-5, nor on the size of the sample that the common "
    "distribution is the mean of, from 10,000 texts on (Fig. 5)."
)
TEMPERATURES = (1e-2, 1e-3, 1e-4, 1e-5)
SAMPLES = {"paper": (5_000, 10_000, 50_000, 100_000), "cpu": (100, 1_000, 5_000), "smoke": (4, 8, 16)}


def temperature_name(temperature: float) -> str:
    return f"temperature {temperature:.0e}".replace("e-0", "e-")


def sample_name(texts: int) -> str:
    return f"common sample of {texts:,}"


def variants(samples: tuple[int, ...]) -> list[Variant]:
    """The raw backbone, the temperatures, the samples."""
    rows = [Variant(name="raw")]
    for temperature in TEMPERATURES:
        settings = {"temperature": temperature}
        rows.append(trained(temperature_name(temperature), settings))
    for texts in samples:
        rows.append(trained(sample_name(texts), {"temperature": 1e-4, "common": "sample", "common_texts": texts}))
    return rows


def trained(name: str, settings: dict) -> Variant:
    """The model-derived stage by itself."""
    own = {f"model_derived.{key}": value for key, value in settings.items()}
    return Variant(name=name, stages=("model_derived",), settings=own, raw="raw")


def main() -> None:
    options = command_line(__doc__)
    samples = SAMPLES[options.preset]
    title = "Temperature and common sample (Text2Token Fig. 5)"
    study = Study("text2token_temperature", title=title, finding=FINDING, variants=variants(samples), options=options)
    study.run()
    temperatures = {f"{value:.0e}": study.values(temperature_name(value)) for value in TEMPERATURES}
    judged = [texts for texts in samples if texts >= 10_000] or samples
    where = f"with the common distribution over {judged[0]:,} to {judged[-1]:,} texts"
    sizes = {f"{texts:,} texts": study.values(sample_name(texts)) for texts in judged}
    study.conclude(verdict([level("over the temperatures", temperatures), level(where, sizes)]))


if __name__ == "__main__":
    run_quietly(main)
