"""How many memory tokens LLM2Comp needs: distillation (CTKD) with 1, 4, 8 and 16 of them.

    python studies/llm2comp_memory_tokens.py --preset cpu

Writes ``llm2comp_memory_tokens_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are
subsamples. The budget is that of llm2comp_pretext.py, where 8 tokens stand behind a text; with fewer or more of them
the texts stay as long as there. The shape of the space is that of llm2comp_spectrum.py.
"""

from __future__ import annotations

from findings import better, level, verdict
from llm2comp_pretext import BUDGETS, STAGE
from llm2comp_spectrum import MEASURES, TEXTS, shape_of
from variants import Study, Variant, command_line, held_out, run_quietly

from selfembed.recipes import find_recipe

FINDING = "1 to 8 memory tokens are about as good, 8 the best for retrieval, and 16 hurt (LLM2Comp)."
TOKENS = (1, 4, 8, 16)
RETRIEVAL = "Wikipedia titles"


def token_name(tokens: int) -> str:
    return "1 memory token" if tokens == 1 else f"{tokens} memory tokens"


def variants(preset: str) -> list[Variant]:
    """CTKD with each number of memory tokens, and as many tokens of text."""
    budget = BUDGETS[preset]
    recipe = find_recipe("llm2comp-unsup")
    usual = recipe.embedder.memory_tokens
    return [
        Variant(
            name=token_name(tokens),
            recipe=recipe.name,
            stages=(STAGE,),
            settings={
                **budget,
                **{name: budget[name] - usual + tokens for name in (f"{STAGE}.max_length", "embed_length")},
                "memory_tokens": tokens,
            },
        )
        for tokens in TOKENS
    ]


def main() -> None:
    options = command_line(__doc__)
    study = Study(
        "llm2comp_memory_tokens",
        title="Number of memory tokens (LLM2Comp)",
        finding=FINDING,
        variants=variants(options.preset),
        options=options,
        measures={name: MEASURES[name] for name in ("effective rank", "memory tokens that differ")},
        look=shape_of(held_out(options.data, TEXTS[options.preset])),
    )
    study.run()
    mean = {tokens: study.values(token_name(tokens)) for tokens in TOKENS}
    found = {tokens: study.values(token_name(tokens), RETRIEVAL) for tokens in TOKENS}
    rival = max((tokens for tokens in TOKENS if tokens != 8), key=lambda tokens: sum(found[tokens]))
    findings = [
        level("with up to 8 memory tokens", {token_name(tokens): mean[tokens] for tokens in TOKENS if tokens <= 8}),
        better(f"on {RETRIEVAL}", *((token_name(tokens), found[tokens]) for tokens in (8, rival))),
        better("on the mean of tasks", *((token_name(tokens), mean[tokens]) for tokens in (8, 16))),
    ]
    study.conclude(verdict(findings))


if __name__ == "__main__":
    run_quietly(main)
