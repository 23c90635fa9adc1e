"""Observation to action: what evaluation and serving call. One object for the plain model and for SVMS.

Axes: B observations, T tokens, S streams, E edges, H horizon, D numbers of an action key.

`get_action` is the call that users of N1.6 know: batched observations, nested or flat (`request.py`). `act` takes
single robots and their seeds, for evaluation. A checkpoint folder holds the weights and the processor's files, so it is
a whole policy; a delta folder is one too, together with its base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.arrays import refuse_not_finite
from svms_gr00t.core.device import device_of, dtype_of
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import EARLIER, check_executed
from svms_gr00t.core.types import Features, ModelInputs
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.processor.embodiment import ModalityConfig
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Processor, Sample
from svms_gr00t.fast.acting import sampler
from svms_gr00t.groot.checkpoint.delta import find_base, is_delta, read_delta
from svms_gr00t.groot.checkpoint.hub import Hub, OnTheHub, locate, write_card
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.groot.checkpoint.saving import checkpoint_folder
from svms_gr00t.memories import Ring, Robot
from svms_gr00t.model import Gr00tN1d6, SampleOutput
from svms_gr00t.pairing import check_pairing
from svms_gr00t.request import read_earlier, read_request, read_robot, read_robots, read_seeds


class Policy(OnTheHub):
    """A model with its processor. Noise comes from seeds, so the same calls give the same actions.

    `seen` is what the backbone said in the latest call; the next one may write over it. A model with memory wants each
    observation's "step", or an `execution_horizon`: the steps that are executed of every chunk. `memories` keeps what
    it remembers of each robot; a control of evaluation may stand in its place.
    """

    def __init__(
        self,
        model: Gr00tN1d6,
        processor: Processor,
        *,
        device: torch.device | str = "cpu",
        execution_horizon: int | None = None,
        fast: bool = False,
        compiled: bool = False,
    ) -> None:
        """`fast` keeps one CUDA graph for each form of a request; `compiled` compiles the model's blocks.
        Raises CheckpointError when the two do not fit, ConfigError for an horizon that does not fit the memory.
        """
        check_pairing(model.config, processor)
        self.model, self.processor, self.device = model.to(device).eval(), processor, device
        self.sampler = sampler(self.model, device, fast=fast, compiled=compiled)
        self.seen: Features | None = None
        self.memories = Ring(self.memory_offsets, every=execution_horizon)
        self._seed, self._calls = 0, 0

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        folder: Path | str,
        *,
        embodiment_tag: str | None = None,
        device: torch.device | str | None = "cpu",
        base: Path | str | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
        check: bool = True,
        execution_horizon: int | None = None,
        fast: bool = False,
        compiled: bool = False,
    ) -> "Policy":
        """Load a checkpoint or delta folder, or a hub id, in the type that most of its numbers have unless `dtype` says
        another. `device` None is CUDA where there is one.

        `revision` (of a hub id), `token`, `cache_dir` and `local_files_only` are huggingface_hub's.
        A delta without processor files takes those of its base. Raises CheckpointError or DataError when a file is
        missing or does not fit, and, unless `check` is off, for weights that are not finite; ConfigError for a device
        that is not there.
        """
        place, kind = device_of(device), dtype_of(dtype)  # first: neither costs anything
        hub = Hub(revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        source = locate(folder, hub=hub)
        files = source
        if is_delta(source) and not (source / "processor_config.json").is_file():
            files = find_base(read_delta(source), base, hub=hub)
        processor = Processor.load(files, embodiment_tag=embodiment_tag)  # before the weights: cheap to find at fault
        if execution_horizon is not None:
            check_executed(execution_horizon, read_config(source).remembered, "execution_horizon")
        ways: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        model = Gr00tN1d6.from_pretrained(source, base=base, dtype=kind, device=place, check=check, **ways)
        if not is_delta(source):
            model.base = str(folder)  # a hub id says more than the cache that it lies in
        return cls(model, processor, device=place, execution_horizon=execution_horizon, fast=fast, compiled=compiled)

    def save_pretrained(  # type: ignore[override]
        self, folder: Path | str, *, config: None = None, model_card_kwargs: dict[str, str] | None = None
    ) -> Path:
        """Write model and processor as one folder that appears when it is complete.

        The keywords are those with which huggingface_hub's `push_to_hub` asks for the card too.
        """
        with checkpoint_folder(folder) as partial:
            self.model.write(partial)
            self.processor.save(partial)
            write_card(partial, model_card_kwargs)
        return Path(folder)

    def model_card(self, repo_id: str) -> str:
        """README.md of a repository: what the policy is, its base and its licence; no results."""
        return self.model.model_card(repo_id, entry="policy")

    def save_delta(self, folder: Path | str, *, base: Path | str | None = None) -> Path:
        """Write what the model changed against its base, and the processor, as one folder."""
        self.model.save_delta(folder, base=base, extra=self.processor.save)
        return Path(folder)

    def reset(self, options: int | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A new episode begins; `options` is its seed, or a mapping. Returns {}, as N1.6 does.

        The mapping may hold "seed", and "rows": the robots of a batch whose episode begins, while the others go on.
        What is remembered of the last episode is dropped; without "rows" the sequence of noise starts again.
        """
        options = options if isinstance(options, Mapping) else {"seed": options}
        seed, rows = int(options.get("seed") or 0), options.get("rows")
        if rows is None:
            self._seed, self._calls = seed, 0
        if self.memory_offsets:
            self.memories.begin(str(options.get("client") or ""), rows, seed=seed)
        return {}

    @property
    def memory_offsets(self) -> tuple[int, ...]:
        """Earlier steps that memory looks back to, oldest first; () for a policy that remembers nothing."""
        return self.model.config.remembered

    def get_modality_config(self) -> dict[str, ModalityConfig]:
        """Keys, steps and meanings of "video", "state", "action" and "language"."""
        config = self.processor.config.embodiment
        return {"video": config.video, "state": config.state, "action": config.action, "language": config.language}

    def get_action(
        self, observation: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Float[np.ndarray, "B H _d"]], dict[str, Any]]:
        """Action chunks (B, H, D) in physical units by key, and the evidence of the streams (see `act`).

        `observation` is {"video": {camera: uint8 (B, T, H, W, 3)}, "state": {key: float32 (B, T, D)}, "language":
        {key: [[text]]}}, or the same flat: "video.<camera>", "state.<key>", "annotation.<...>". `options` may fix the
        noise with "seed" or, one for each robot, "seeds"; else it follows from the seed of `reset` and the number of
        calls since. For a model with memory, "step" of the observation is the environment's step, a number or one for
        each robot, and "rows" of the options says which robots these are, by default 0, 1, .. Raises DataError, one
        sentence that lists what was expected, for anything that does not fit, and for a chunk that is not finite.
        """
        seen = read_request(observation, self.processor.config)
        seeds = read_seeds(options, (self._seed, self._calls), len(seen))
        robots = read_robots(options, len(seen))
        inputs = collate([self.processor.encode(one) for one in seen.split()])
        remembering, steps = self._remembering(inputs, robots, seen.step)
        sampled = self._sampled(remembering, seeds)
        chunk, evidence = self._told(inputs, sampled)
        actions = self._decoded(chunk, seen)
        self._keep(robots, steps, sampled)
        self._calls += 1
        return actions, evidence

    def check(self, observation: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> None:
        """Raise DataError for what `get_action` would refuse before it computes anything, but for steps of memory.

        May be called from another thread than the policy's.
        """
        seen = read_request(observation, self.processor.config)
        read_seeds(options, (0, 0), len(seen))
        read_robots(options, len(seen))
        for one in seen.split():
            one.check(self.processor.config.embodiment)
            self.processor.codec.encode_state({key: numbers[0] for key, numbers in one.state.items()})

    def act(
        self, observations: Sequence[Mapping[str, Any]], *, seeds: Sequence[int]
    ) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
        """One chunk (H, D) in physical units for each flat observation of one robot, and the evidence of the streams.

        A model with memory takes each observation's "step", of robots 0, 1, .. in their order; or, of recorded
        episodes, "earlier": the observations at `memory_offsets`, oldest first, None before the start. It then looks at
        those alone and keeps nothing.

        Evidence of an SVMS policy: "rho" (B, T, E), "weights" (B, T, S), "mask" and "image_mask" (B, T), "tokens"
        (token texts of each row, left-padding included); with memory, also alone, "ages" (B, K + 1), what each step was
        given of the present's attention, oldest first. Raises DataError for observations that do not fit, and for a
        chunk that is not finite.
        """
        seen, inputs = self._read_in(observations)
        robots, steps, remembering = read_robots(None, len(seen)), list[int](), inputs
        if not _is_replay(observations):
            remembering, steps = self._remembering(inputs, robots, _steps(seen))
        sampled = self._sampled(remembering, seeds)
        action, evidence = self._told(inputs, sampled)
        decoded = [self._decoded(action[i : i + 1], one) for i, one in enumerate(seen)]
        chunks = [{key: value[0] for key, value in one.items()} for one in decoded]
        self._keep(robots, steps, sampled)
        return chunks, evidence

    def watch(self, observations: Sequence[Mapping[str, Any]]) -> None:
        """Remember what is shown before anybody acts: a flat observation of each robot 0, 1, .. with its "step"."""
        if self.memory_offsets:
            robots = read_robots(None, len(observations))
            steps = self.memories.steps(robots, _steps(self.read(observations)))
            self.memories.keep(robots, steps, self.moments(observations))

    def prepare(
        self, observations: Sequence[Mapping[str, Any]], chunks: Sequence[Mapping[str, np.ndarray]] | None = None
    ) -> tuple[list[Observation], ModelInputs]:
        """Observations of one robot each, as `act` takes them, and the model's input, with their "earlier" steps.

        `chunks` are recorded ones, to compute losses of. Raises DataError for what does not fit.
        """
        seen, inputs = self._read_in(observations, chunks)
        return seen, inputs.to(self.device)

    def _read_in(
        self, observations: Sequence[Mapping[str, Any]], chunks: Sequence[Mapping[str, np.ndarray]] | None = None
    ) -> tuple[list[Observation], ModelInputs]:
        """`prepare`, still on the host."""
        seen = self.read(observations)
        given = chunks if chunks is not None else [None] * len(seen)
        samples = [self._encoded(one, chunk) for one, chunk in zip(seen, given, strict=True)]
        earlier = read_earlier(observations, self.memory_offsets) if self.memory_offsets else None
        if earlier is not None:
            # Steps of one episode look back to the same ones: each is encoded once.
            different = {id(step): step for steps in earlier for step in steps if step is not None}
            past = dict(zip(different, map(self.processor.encode, self.read(list(different.values()))), strict=True))
            rows = [tuple(None if step is None else past[id(step)] for step in steps) for steps in earlier]
            samples = [replace(one, earlier=row) for one, row in zip(samples, rows, strict=True)]
        return seen, collate(samples)

    @torch.no_grad()
    def moments(self, observations: Sequence[Mapping[str, Any]]) -> Float[Tensor, "B Q D"]:
        """What memory would keep of each observation. Raises DataError for a policy that remembers nothing."""
        if not self.memory_offsets:
            hint = "Train with --memory-frames"
            raise DataError("policy", got="a model without memory", want="one with memory", hint=hint)
        _, inputs = self.prepare(observations)
        features, _ = self.model.encode(inputs, losses=False)
        assert features.recalled is not None
        return features.recalled.moments

    def _sampled(self, inputs: ModelInputs, seeds: Sequence[int]) -> SampleOutput:
        sampled = self.sampler.sample(inputs, self._noise(inputs, seeds))
        self.seen = sampled.seen
        return sampled

    def _remembering(
        self, inputs: ModelInputs, robots: Sequence[Robot], said: Sequence[int] | None
    ) -> tuple[ModelInputs, list[int]]:
        """The inputs with what is remembered of these robots, and their steps; as they are without memory."""
        if not self.memory_offsets:
            return inputs, []
        steps = self.memories.steps(robots, said)
        return replace(inputs, past=self.memories.past(robots, steps)), steps

    def _keep(self, robots: Sequence[Robot], steps: Sequence[int], sampled: SampleOutput) -> None:
        """Remember steps that were acted on; what failed before is not."""
        if steps:
            assert sampled.features.recalled is not None
            self.memories.keep(robots, steps, sampled.features.recalled.moments)

    def read(self, observations: Sequence[Mapping[str, Any]]) -> list[Observation]:
        """Observations of one robot each, as `act` takes them, checked. Raises DataError for what does not fit."""
        return [read_robot(observation, self.processor.config) for observation in observations]

    def _told(self, inputs: ModelInputs, sampled: SampleOutput) -> tuple[Float[np.ndarray, "B H Da"], dict[str, Any]]:
        """The normalised chunk and the evidence on the host, in one transfer; `inputs` are those on the host."""
        evidence: dict[str, Any] = sampled.on_host()
        action = evidence.pop("action")
        if "rho" not in evidence:
            return action, evidence
        real = inputs.attention_mask
        image = (inputs.input_ids == self.model.config.image_token_index) & real
        evidence |= {"mask": real.float().numpy(), "image_mask": image.float().numpy()}
        evidence["tokens"] = [[self.processor.tokenizer.decode([i]) for i in row] for row in inputs.input_ids.tolist()]
        return action, evidence

    def _decoded(
        self, action: Float[np.ndarray, "B _H Da"], seen: Observation
    ) -> dict[str, Float[np.ndarray, "B H _d"]]:
        """Physical chunks. Raises DataError for NaN and infinity, also where clipping would have hidden them."""
        refuse_not_finite({"the model's output": action})
        actions = self.processor.decode(action, seen)
        refuse_not_finite(actions)
        return actions

    @torch.no_grad()
    def flow_loss(
        self,
        observations: Sequence[Mapping[str, Any]],
        chunks: Sequence[Mapping[str, np.ndarray]],
        *,
        seeds: Sequence[int],
    ) -> Float[np.ndarray, " B"]:
        """Flow-matching loss of recorded chunks at the noise and the flow time that each seed fixes."""
        if self.memory_offsets and not _is_replay(observations):
            hint = "evaluate.open_loop.recorded.Recorded gives them"
            raise DataError("observation", got="no earlier steps", want="those at the memory's offsets", hint=hint)
        _, inputs = self.prepare(observations, chunks)
        features, _ = self.model.encode(inputs, losses=False)
        generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
        time = torch.cat([self.model.action_head.draw_time(1, generator=g) for g in generators]).to(self.device)
        flow = self.model.action_head.loss(features, inputs, noise=self._noise(inputs, seeds), time=time)
        assert inputs.action_mask is not None
        return (flow.per_element.sum((1, 2)) / inputs.action_mask.sum((1, 2)).clamp(min=1)).float().cpu().numpy()

    def _encoded(self, observation: Observation, chunk: Mapping[str, np.ndarray] | None) -> Sample:
        if chunk is None:
            return self.processor.encode(observation)
        horizon = len(self.processor.config.embodiment.action.delta_indices)
        length = min(horizon, len(next(iter(chunk.values()))))
        padded = {key: value[np.minimum(np.arange(horizon), length - 1)] for key, value in chunk.items()}
        return self.processor.encode(observation, padded, np.arange(horizon) >= length)

    def _noise(self, inputs: ModelInputs, seeds: Sequence[int]) -> Float[Tensor, "B H Da"]:
        """Standard normal noise of each row from its own seed, whatever the batch around it."""
        size = (self.model.config.action_horizon, self.model.config.max_action_dim)
        rows = [torch.randn(size, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(rows).to(inputs.state.device)


def _is_replay(observations: Sequence[Mapping[str, Any]]) -> bool:
    return any(one.get(EARLIER) is not None for one in observations)


def _steps(seen: Sequence[Observation]) -> list[int] | None:
    """The step that each observation names; None when none does. Raises DataError when only some do."""
    said = [one.step[0] for one in seen if one.step is not None]
    if said and len(said) < len(seen):
        got, hint = f"{len(said)} of {len(seen)} observations with a step", "Say it in each"
        raise DataError("observations", got=got, want="all or none", hint=hint)
    return said or None
