"""What a policy keeps while it acts: the moments of earlier steps, for each robot, by the step of its environment.

Axes: B robots of a request, K past steps, Q moments of a step, D their width.

    past(t) = moments at t + offsets        hidden where t + offset < 0: the episode had not begun

A robot is (client, row). Its steps are those of its environment, never the number of calls, so that acting remembers
what training saw. A step that looks back to one that was never seen is refused: an empty memory in its place would say
that nothing ever happened. `Wiped` and `Borrowed` are controls; whatever has the methods of `Ring` can stand in.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.history import STEP, check_executed
from svms_gr00t.core.protocols import fixed_seed
from svms_gr00t.core.types import Moments

Robot = tuple[str, int]
"""(client, row of its requests)."""
ALL = -1
"""In place of a row: a client that has reset all of its robots."""


class Ring:
    """Moments of every robot, as far back as `offsets` reach; of at most `robots`, the least recently used go first."""

    def __init__(self, offsets: Sequence[int], *, every: int | None = None, robots: int = 256) -> None:
        """`every`: steps between two requests of a robot that does not say its step.

        Raises ConfigError when they do not fit the offsets, and for no robots.
        """
        if every is not None:
            check_executed(every, offsets, "execution_horizon")
        if robots < 1:
            raise ConfigError("memories.robots", got=robots, want="at least 1", hint="256 is the default")
        self.offsets, self.every, self.robots = tuple(offsets), every, robots
        self._kept: OrderedDict[Robot, dict[int, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        """Robots that are remembered."""
        return sum(row != ALL for _, row in self._kept)

    def begin(self, client: str = "", rows: Sequence[int] | None = None, *, seed: int = 0) -> None:
        """An episode begins for some robots of a client, by default for all; `seed` is the episode's."""
        gone = [robot for robot in self._kept if robot[0] == client] if rows is None else [(client, r) for r in rows]
        for robot in gone:
            self._kept.pop(robot, None)
        for row in (ALL,) if rows is None else rows:
            self._kept[client, row] = {}
        self._forget()

    def steps(self, robots: Sequence[Robot], said: Sequence[int] | None) -> list[int]:
        """The step of each robot: what it says, or `every` after its last one.

        Raises DataError when neither tells, and for a robot that was never reset and does not say its step.
        """
        if said is not None:
            return list(said)
        if self.every is None:
            want = f'"{STEP}", the environment\'s step since the episode began'
            hint = "Or declare how many steps are executed of a chunk: execution_horizon, or serve --n-action-steps"
            raise DataError("memory", got="an observation without its step", want=want, hint=hint)
        return [self._next(robot, self.every) for robot in robots]

    def _next(self, robot: Robot, every: int) -> int:
        if robot not in self._kept and (robot[0], ALL) not in self._kept:
            hint = f'Call reset when an episode begins, or say "{STEP}"; a server that was restarted has forgotten'
            raise DataError("memory", got=f"{_name(robot)}, which was never reset", want="a known one", hint=hint)
        kept = self._kept.get(robot)
        return max(kept) + every if kept else 0

    def past(self, robots: Sequence[Robot], steps: Sequence[int]) -> Moments | None:
        """What was kept at the offsets before each robot's step; None when nobody has any past.

        Raises DataError for a step that goes back, or that looks back to one that was never seen.
        """
        rows = [self._row(robot, step) for robot, step in zip(robots, steps, strict=True)]
        some = next((one for row in rows for one in row if one is not None), None)
        if some is None:
            return None
        nothing = torch.zeros_like(some)
        values = torch.stack([torch.stack([nothing if one is None else one for one in row]) for row in rows])
        valid = torch.tensor([[one is not None for one in row] for row in rows], device=some.device)
        return Moments(values=values, valid=valid)

    def _row(self, robot: Robot, step: int) -> list[Tensor | None]:
        kept, at = self._kept.get(robot, {}), f"step {step} of {_name(robot)}"
        if kept and step < max(kept):
            _refuse(f"{at} after step {max(kept)}", "a later one", "Reset when an episode begins")
        wanted = [step + offset for offset in self.offsets]
        missing = [one for one in wanted if one >= 0 and one not in kept]
        if missing and not kept:
            hint = "Reset and begin at step 0; a server that was restarted, or served many others since, has forgotten"
            _refuse(f"{at}, of which nothing is remembered", f"step {missing[-1]} before it", hint)
        if missing:
            hint = f"Ask at every {-self.offsets[-1]} steps from the first one on, or reset"
            _refuse(f"{at}, but never step {missing[-1]}", "what memory looks back to", hint)
        return [kept.get(one) for one in wanted]

    def keep(self, robots: Sequence[Robot], steps: Sequence[int], moments: Float[Tensor, "B Q D"]) -> None:
        """Take in the moments of these steps; what no later step can look back to is dropped."""
        for robot, step, one in zip(robots, steps, moments.detach(), strict=True):
            if (robot[0], ALL) in self._kept:
                self._kept.move_to_end((robot[0], ALL))
            kept = self._kept.setdefault(robot, {})
            self._kept.move_to_end(robot)
            kept[step] = one.clone()  # a view would keep the whole batch alive
            for old in [old for old in kept if old < step + self.offsets[0]]:
                del kept[old]
        self._forget()

    def _forget(self) -> None:
        while len(self._kept) > self.robots:
            (client, _), _ = self._kept.popitem(last=False)
            self._kept.pop((client, ALL), None)


class Wiped(Ring):
    """Control: a memory in which nothing ever came before."""

    def past(self, robots: Sequence[Robot], steps: Sequence[int]) -> Moments | None:
        """None, for steps that a `Ring` accepts."""
        super().past(robots, steps)
        return None


class Borrowed(Ring):
    """Control: a robot remembers another episode instead of its own, at the same steps.

    Which one of `episodes` (step -> moments, from step 0) follows from the seed of the episode and the row, so it does
    not depend on who acted before. After its last step the other episode stands still.
    """

    def __init__(
        self, offsets: Sequence[int], episodes: Sequence[Mapping[int, Float[Tensor, "Q D"]]], **options: int
    ) -> None:
        """Raises ConfigError for no episodes, or for one without a first step."""
        super().__init__(offsets, **options)
        if not episodes or not all(0 in one for one in episodes):
            hint = "evaluate.open_loop.recorded.remembered gives them"
            raise ConfigError("episodes", got=len(episodes), want="at least one, each from step 0 on", hint=hint)
        self.episodes, self._seeds = list(episodes), dict[str, int]()

    def begin(self, client: str = "", rows: Sequence[int] | None = None, *, seed: int = 0) -> None:
        """As `Ring.begin`; the seed chooses what is borrowed."""
        super().begin(client, rows, seed=seed)
        self._seeds[client] = seed

    def past(self, robots: Sequence[Robot], steps: Sequence[int]) -> Moments | None:
        """The other episode's moments where the robot's own past is valid."""
        own = super().past(robots, steps)
        if own is None:
            return None
        values = own.values.clone()
        for i, ((client, row), step) in enumerate(zip(robots, steps, strict=True)):
            other = self.episodes[fixed_seed(self._seeds.get(client, 0), row) % len(self.episodes)]
            for k, offset in enumerate(self.offsets):
                if step + offset >= 0:
                    values[i, k] = other[max(known for known in other if known <= step + offset)].to(values)
        return Moments(values=values, valid=own.valid)


def _name(robot: Robot) -> str:
    client, row = robot
    return f"robot {row} of {client}" if client else f"robot {row}"


def _refuse(got: str, want: str, hint: str) -> NoReturn:
    raise DataError("memory", got=got, want=want, hint=hint)
