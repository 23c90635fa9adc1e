"""What a model card says about any model of ours: its metadata, what it is, how it is used, whose licence holds.

Results, training and limits come from a run's files (`evaluate/report/card.py`); `plain_card` claims none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from svms_gr00t.core.escape import code, literal, markdown, plain

OWN = ("shipped", "none")
"""Bases whose weights are this project's own."""
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What is known without any run."""

    name: str
    """Title, and what `from_pretrained` is given."""
    base: str
    """Where training started: one of `OWN`, a hub id, a folder or `UNKNOWN`."""
    svms: bool
    """Whether the model has SVMS."""
    streams: tuple[str, ...] = ()
    """Its streams."""
    d_stream: int | None = None
    """Their width."""
    d_overlap: int | None = None
    """Width of their overlaps."""
    parameters: int | None = None
    """How many numbers."""
    entry: str = "policy"
    """"policy", or "model" for weights without a processor."""


def metadata(facts: CardFacts, results: Sequence[EvalResult] = ()) -> ModelCardData:
    """The block that the hub reads."""
    own = facts.base in OWN
    values: dict[str, Any] = {
        "license": "apache-2.0" if own else "other",
        "library_name": "svms-gr00t",
        "pipeline_tag": "robotics",
        "tags": ["robotics", "vla", "gr00t", *(["sheaf", "svms"] if facts.svms else [])],
        "model_name": plain(facts.name),
        "eval_results": list(results) or None,
    }
    if not own:
        values["license_name"] = "that-of-the-base"
        if is_hub_id(facts.base):
            values["base_model"] = facts.base
    return ModelCardData(**values)


def is_hub_id(base: str) -> bool:
    """Whether a base is named as on the hub, and not a folder of ours."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", base) is not None


def what(facts: CardFacts) -> str:
    """One paragraph."""
    kind = "GR00T N1.6 with sheaf-coupled streams (SVMS)" if facts.svms else "plain GR00T N1.6"
    text = f"A vision-language-action policy: {kind}, saved by svms-gr00t."
    if facts.svms:
        text += (
            f" Streams: {', '.join(map(markdown, facts.streams))}; width {facts.d_stream}, overlap {facts.d_overlap}."
        )
    if facts.parameters is not None:
        text += f" {facts.parameters:,} parameters."
    return text


def use(facts: CardFacts) -> str:
    """A snippet that runs."""
    if facts.entry == "model":
        return f"""```python
from svms_gr00t import Gr00tN1d6

model = Gr00tN1d6.from_pretrained({literal(facts.name)})  # weights alone; a policy has its processor's files too
```"""
    return f"""```python
from svms_gr00t.policy import Policy

policy = Policy.from_pretrained({literal(facts.name)})
actions, evidence = policy.get_action(observation)  # policy.get_modality_config() lists the keys
```"""


def licence(base: str) -> str:
    """Whose terms hold."""
    if base in OWN:
        return "Apache-2.0, weights and code."
    return (
        f"The code is Apache-2.0. The weights were made from {code(base)} and keep its licence; those of NVIDIA's "
        "GR00T N1.6 are under NVIDIA's own, to be read before use."
    )


def assemble(facts: CardFacts, head: ModelCardData, parts: Sequence[str]) -> str:
    """README.md from its metadata and its sections; the first say what the model is and how it is used."""
    sections = [f"---\n{head.to_yaml()}\n---", f"# {markdown(facts.name)}", what(facts), use(facts), *parts]
    return "\n\n".join(part for part in sections if part) + "\n"


def plain_card(facts: CardFacts) -> str:
    """The card of a model of which no result is at hand."""
    parts = ["## Results", "Not measured.", "## Training", "Not written down.", "## Licence", licence(facts.base)]
    return assemble(facts, metadata(facts), parts)
