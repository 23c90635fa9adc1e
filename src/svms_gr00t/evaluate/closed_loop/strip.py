"""What stands under a film: who acts, how far the task is, and how far the streams disagree so far.

Axes: H and W pixels of the strip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

LINE, CURVE = 15, 30
"""Pixels of a line of text, and of the curve under two of them."""
HEIGHT = 2 * LINE + CURVE
INK, SOFT, RHO = (40, 40, 44), (120, 118, 124), (155, 79, 181)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an episode says of itself."""

    name: str
    """The policy."""
    stages: Mapping[int, str] = field(default_factory=dict)
    """Step -> how far the task is from there on."""
    rho: Sequence[tuple[int, float]] = ()
    """(step, disagreement) whenever the policy planned; empty without streams."""

    def stage(self, step: float) -> str:
        """How far the task is at a step; empty where nobody said."""
        return next((text for at, text in sorted(self.stages.items(), reverse=True) if at <= step), "")


def strip(told: Told, now: float, *, width: int, steps: int, top: float) -> UInt8[np.ndarray, "H W 3"]:
    """The strip at step `now`: two lines of text, and the disagreement up to now on an axis of `steps` by `top`."""
    picture = Image.new("RGB", (width, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11)
    stage = told.stage(now)
    draw.text((3, 1), f"{told.name}, step {now:.0f}", fill=INK, font=font)
    draw.text((3, LINE), stage, fill=SOFT, font=font)
    seen = [(float(step), value) for step, value in told.rho if step <= now]
    floor = HEIGHT - 3
    draw.line([(3, floor), (width - 4, floor)], fill=(215, 213, 208))
    if not told.rho:
        draw.text((3, 2 * LINE + 8), "no streams", fill=SOFT, font=font)
        return np.asarray(picture)

    def at(step: float, value: float) -> tuple[float, float]:
        return 3 + (width - 7) * step / steps, floor - (CURVE - 6) * min(value / top, 1.0)

    if seen:
        path = [at(*one) for one in seen]
        path.append(at(now, seen[-1][1]))  # it holds until the policy plans again
        draw.line(path, fill=RHO, width=2)
        text = f"rho {seen[-1][1]:.2f}"
        draw.text((width - 4 - draw.textlength(text, font=font), LINE), text, fill=RHO, font=font)
    return np.asarray(picture)
