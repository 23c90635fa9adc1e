"""One episode after another in one environment: ask, execute, watch, film; whatever breaks, breaks one episode.

Axes: H action horizon, B = 1 observation, T tokens, S streams, E edges.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from svms_gr00t.core.arrays import as_array, refuse_not_finite
from svms_gr00t.core.errors import ConfigError, SvmsError
from svms_gr00t.core.history import History, check_executed, inside, memory_of, watched_steps
from svms_gr00t.core.protocols import (
    INSTRUCTION,
    WATCHED,
    ActionPolicy,
    Environment,
    Factory,
    bare_keys,
    fixed_seed,
)
from svms_gr00t.evaluate.closed_loop.faults import Faulty
from svms_gr00t.evaluate.closed_loop.libero_action import Gripper
from svms_gr00t.evaluate.closed_loop.libero_action import assemble as assemble_libero
from svms_gr00t.evaluate.closed_loop.result import Ending, Replan, Rollout, RolloutConfig, SensorCheck
from svms_gr00t.evaluate.closed_loop.robocasa_action import assemble
from svms_gr00t.evaluate.closed_loop.robomme_action import assemble as assemble_robomme
from svms_gr00t.evaluate.closed_loop.video import encode_gif
from svms_gr00t.monitor import CONSISTENCY

log = logging.getLogger(__name__)


def check_broken(done: list[Rollout], config: RolloutConfig) -> None:
    """Give up when more than `max_errors` episodes broke: their failures would not be the policy's."""
    broken = [r for r in done if r.ending == "error"]
    if len(broken) > config.max_errors:
        last = broken[-1]
        raise RolloutError(
            f"closed loop: {len(broken)} broken episodes, the last {last.task} {last.index}: {last.error}"
        )


def check_driven(done: list[Rollout]) -> None:
    """Refuse a result without a single driven episode: 0 of 1 would stand beside published rates."""
    if all(r.ending == "error" for r in done):
        last = done[-1]
        raise RolloutError(f"closed loop: not one episode could be driven, the last {last.task}: {last.error}")


class RolloutError(SvmsError, RuntimeError):
    """Too little could be driven for the success rate to mean anything."""


def episode_seed(config: RolloutConfig, task: str, index: int) -> int:
    """The scene's seed."""
    return fixed_seed(config.seed, crc32(task.encode()), index)


def episode_numbers(tasks: Sequence[str], episodes: int, seed: int) -> dict[int, int]:
    """Scene's seed -> number of the episode within its task, for benchmarks whose own episodes are numbered."""
    config = RolloutConfig(tasks=tuple(tasks), episodes=episodes, seed=seed)
    return {episode_seed(config, task, index): index for task in tasks for index in range(episodes)}


def broken(config: RolloutConfig, task: str, index: int, error: str) -> Rollout:
    """An episode that ended before the policy could be judged."""
    return Rollout(
        task=task,
        index=index,
        seed=episode_seed(config, task, index),
        instruction="",
        success=False,
        steps=0,
        ending="error",
        error=error,
    )


class Driver:
    """One environment and one policy, driving episodes one after another."""

    def __init__(self, policy: ActionPolicy | Factory, env: Environment | Factory, config: RolloutConfig) -> None:
        self.config = config
        self._policy = policy
        self._make_env = env if isinstance(env, Factory) else None
        self._env: Environment | None = None if isinstance(env, Factory) else env

    def drive(self, task: str, index: int) -> Rollout:
        """One episode; whatever the simulator or the policy raises ends this episode only.

        Raises RolloutError when one of them cannot be built: that is no episode, and says nothing about a policy.
        """
        seed, began = episode_seed(self.config, task, index), time.monotonic()
        env, policy = self._ready()
        try:
            found = _Episode(env, policy, self.config, task, index, seed).run()
        except SvmsError:
            raise
        except Exception as error:
            log.exception("episode %s %d broke", task, index)
            self._rebuild()
            found = broken(self.config, task, index, f"{type(error).__name__}: {error}")
        return replace(found, seconds=time.monotonic() - began)

    def _ready(self) -> tuple[Environment, ActionPolicy]:
        """Both, built on first use."""
        if isinstance(self._policy, Factory):
            policy: ActionPolicy = _built(self._policy, "policy")
            self._policy = policy
        check_executed(self.config.n_action_steps, memory_of(self._policy), "rollout.n_action_steps")
        if self._env is None:
            assert self._make_env is not None, "an environment that was passed in is never dropped"
            env: Environment = _built(self._make_env, "environment")
            self._env = env
        return (Faulty(self._env, self.config.fault) if self.config.fault else self._env), self._policy

    def _rebuild(self) -> None:
        """A fresh environment after a failure, where one can be built."""
        if self._make_env is not None:
            self.close()

    def close(self) -> None:
        """Close an environment that was built here; one that was passed in stays its owner's."""
        if self._make_env is not None and self._env is not None:
            with suppress(RuntimeError, OSError, AttributeError):
                self._env.close()
            self._env = None


def _built(factory: Factory, what: str) -> Any:
    try:
        return factory.build()
    except SvmsError:
        raise
    except Exception as error:
        log.exception("the %s cannot be built", what)
        raise RolloutError(f"closed loop: the {what} cannot be built ({type(error).__name__}: {error})") from error


class _Episode:
    def __init__(
        self, env: Environment, policy: ActionPolicy, config: RolloutConfig, task: str, index: int, seed: int
    ) -> None:
        self.env, self.policy, self.config = env, policy, config
        self.task, self.index, self.seed = task, index, seed
        self.frames: list[np.ndarray] = []
        self.replans: list[Replan] = []
        self.sensors: list[SensorCheck] = []
        self.stages: dict[int, str] = {}
        self.history = History.of(policy)
        self.shown = 0
        """Steps that were shown before the first one that is acted on."""
        self.watch = StuckDetector(steps=config.stuck_steps, distance=config.stuck_distance)

    def run(self) -> Rollout:
        filmed = self.index < self.config.videos
        self._draw(True)
        try:
            seen, info = self.env.reset(seed=self.seed, options={"task": self.task, "split": self.config.split})
            self._hear(0, info)
            self.policy.reset(self.seed)
            self._watch(info.get(WATCHED, ()))
            steps, ending, last = self._drive(seen, filmed)
        finally:
            self._draw(True)
        if filmed:
            self.frames.append(_picture(last, self.config.video_view))
        return Rollout(
            task=self.task,
            index=self.index,
            seed=self.seed,
            instruction=str(seen[INSTRUCTION]),
            success=ending == "success",
            steps=steps,
            ending=ending,
            stuck_at=self.watch.stuck_at,
            replans=tuple(self.replans),
            sensors=tuple(self.sensors),
            stages=self.stages,
            video=encode_gif(self.frames) if filmed else None,
        )

    def _watch(self, shown: Sequence[dict[str, Any]]) -> None:
        """Let history and memory see what was shown; nothing is asked for and nothing is sent."""
        memory, self.shown = memory_of(self.policy), len(shown)
        wanted = set(watched_steps(self.shown, self.config.n_action_steps, memory))
        for step, seen in enumerate(shown):
            self.history.see(step, seen)
            if step in wanted:
                inside(self.policy).watch([self.history.at(step)])

    def _drive(self, seen: dict[str, Any], filmed: bool) -> tuple[int, Ending, dict[str, Any]]:
        """Steps driven, how the episode ended, and the last observation."""
        c, chunk = self.config, dict[str, np.ndarray]()
        for step in range(c.horizon_of(self.task)):
            self.history.see(self.shown + step, seen)
            if filmed and step % c.video_stride == 0:
                self.frames.append(_picture(seen, c.video_view))
            if self.watch.see(seen.get(c.position_key), step) and c.stop_when_stuck:
                return step, "stuck", seen
            if step % c.n_action_steps == 0:
                chunk = self._ask(self.history.at(self.shown + step), step)
            row = {key: value[step % c.n_action_steps] for key, value in chunk.items()}
            self._draw(filmed or self.history.needs_pictures(step + 1, c.n_action_steps))
            seen, _reward, terminated, truncated, info = self.env.step(self._vector(row))
            self._hear(step + 1, info)
            if _succeeded(info):
                return step + 1, "success", seen
            if terminated or truncated:
                return step + 1, "failed" if terminated else "horizon", seen
        return c.horizon_of(self.task), "horizon", seen

    def _hear(self, step: int, info: Mapping[str, Any]) -> None:
        """Keep how far the task is, where that changes."""
        stage = str(info.get("stage", ""))
        if stage and stage != next(reversed(self.stages.values()), ""):
            self.stages[step] = stage

    def _draw(self, wanted: bool) -> None:
        """Spare an environment the pictures that nobody looks at."""
        inner = getattr(self.env, "unwrapped", self.env)
        if hasattr(inner, "drawing"):
            inner.drawing = wanted

    def _vector(self, row: dict[str, np.ndarray]) -> np.ndarray:
        c = self.config
        if c.robot == "robomme":
            return assemble_robomme(row)
        if c.robot == "libero":
            return assemble_libero(row, gripper=Gripper(threshold=c.threshold, opens=c.gripper_opens))
        return assemble(row, threshold=c.threshold)

    def _ask(self, observation: dict[str, Any], step: int) -> dict[str, np.ndarray]:
        chunks, info = self.policy.act([observation], seeds=[fixed_seed(self.seed, step)])
        refuse_not_finite(chunks[0], f"actions of {self.task} {self.index} at step {step}")
        chunk = bare_keys(chunks[0])
        shortest = min(len(rows) for rows in chunk.values())
        if shortest < self.config.n_action_steps:
            hint = "Lower n_action_steps"
            got = f"chunks of {shortest} steps"
            raise ConfigError("policy", got=got, want=f"at least {self.config.n_action_steps}", hint=hint)
        if evidence := read_evidence(info, step, memory_of(self.policy), shown=self.shown):
            self.replans.append(evidence)
        if checked := read_sensors(info, step):
            self.sensors.append(checked)
        return chunk


class StuckDetector:
    """Stuck: the end effector has stayed within `distance` of where it was for `steps` steps."""

    def __init__(self, *, steps: int, distance: float) -> None:
        self.steps, self.distance = steps, distance
        self.stuck_at: int | None = None
        self._anchor: np.ndarray | None = None
        self._since = 0

    def see(self, position: Any, step: int) -> bool:
        """Take in one position (None: unknown, never stuck); is it stuck now?"""
        if position is None:
            return False
        here = np.asarray(position, dtype=float)
        if self._anchor is None or np.linalg.norm(here - self._anchor) > self.distance:
            self._anchor, self._since = here, step
        stuck = step - self._since >= self.steps
        if stuck and self.stuck_at is None:
            self.stuck_at = step
        return stuck


def read_evidence(info: Mapping[str, Any], step: int, memory: Sequence[int] = (), *, shown: int = 0) -> Replan | None:
    """Mean over the valid tokens of the one observation; padding has router weights of 0. None without streams.

    `memory` are the offsets of what is remembered; `shown` steps came before step 0.
    """
    if "rho" not in info or "weights" not in info:
        return None
    rho, weights = as_array(info["rho"])[0], as_array(info["weights"])[0]
    valid = weights.sum(-1) > 0
    if not valid.any():
        return None
    rho, weights = rho[valid].astype(float), weights[valid].astype(float)
    return Replan(
        step=step,
        rho=tuple(rho.mean(0).tolist()),
        rho_max=tuple(rho.max(0).tolist()),
        routes=tuple(weights.mean(0).tolist()),
        ages=read_ages(info, shown + step, memory),
    )


def read_ages(info: Mapping[str, Any], step: int, memory: Sequence[int]) -> dict[int, float]:
    """Steps back -> share of the present's attention, from the episode's first step on; empty without memory."""
    if "ages" not in info:
        return {}
    shares = as_array(info["ages"])[0].astype(float).tolist()
    return {-o: share for o, share in zip((*memory, 0), shares, strict=True) if step + o >= 0}


def read_sensors(info: Mapping[str, Any], step: int) -> SensorCheck | None:
    """What a consistency monitor says of the one observation; None without one."""
    if CONSISTENCY not in info:
        return None
    said = info[CONSISTENCY]
    residuals = {name: float(edge["residual"][0]) for name, edge in said["edges"].items()}
    return SensorCheck(
        step=step,
        score=min(float(said["score"][0]), sys.float_info.max),  # JSON has no infinity
        threshold=said["threshold"],
        residuals={name: value if np.isfinite(value) else None for name, value in residuals.items()},
    )


def _succeeded(info: Mapping[str, Any]) -> bool:
    if "success" not in info:
        hint = "Add it to the environment's step: a reward alone does not say that a task is done"
        raise ConfigError("environment info", got=sorted(info), want="success among it", hint=hint)
    return bool(np.any(info["success"]))


def _picture(observation: Mapping[str, Any], view: str) -> np.ndarray:
    views = [key for key in observation if key.startswith("video.")]
    wanted = f"video.{view}" if view else (views[0] if views else "video.")
    if wanted not in observation:
        raise ConfigError(
            "rollout.video_view", got=view, want=f"one of {views}", hint="Name a camera of the environment"
        )
    return np.asarray(observation[wanted])
