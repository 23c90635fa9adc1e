"""What a checkpoint folder holds, from `config.json`, the processor's files and the headers of the weights alone."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.documents import named, read_raw
from svms_gr00t.groot.bounds import check_layers
from svms_gr00t.groot.checkpoint.delta import STEM, base_here, is_delta, read_delta
from svms_gr00t.groot.checkpoint.foreign import refuse_other_weights
from svms_gr00t.groot.checkpoint.loading import is_unused, read_config, weight_files
from svms_gr00t.groot.checkpoint.tensors import AGAIN, Stored
from svms_gr00t.groot.config import Gr00tN1d6Config

LICENCE = (
    "Weights that come from NVIDIA's GR00T N1.6 stay under NVIDIA's own licence (research use; see the model card of "
    "nvidia/GR00T-N1.6-3B), also after fine-tuning. The code here is Apache-2.0."
)
PROCESSOR_FILES = ("processor_config.json", "statistics.json", "embodiment_id.json", "tokenizer.json")
_COMPONENTS = {
    "backbone.model.vision_model.": "vision tower",
    "backbone.model.mlp1.": "image projector",
    "backbone.model.language_model.model.embed_tokens.": "language embedding",
    "backbone.model.language_model.": "language layers",
    "action_head.model.": "diffusion transformer",
    "action_head.state_encoder.": "embodiment projectors",
    "action_head.action_encoder.": "embodiment projectors",
    "action_head.action_decoder.": "embodiment projectors",
    "action_head.": "action head, rest",
    "svms.": "SVMS",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the statistics say about one key."""

    width: int
    """Numbers of the key."""
    low: float
    """Smallest of its minima."""
    high: float
    """Largest of its maxima."""


@dataclass(frozen=True, kw_only=True)
class Embodiment:
    """One robot of a checkpoint."""

    tag: str
    """Its name."""
    row: int | None
    """Its row in the embodiment banks; None without an entry in embodiment_id.json."""
    views: tuple[str, ...]
    """Cameras, in prompt order."""
    state: dict[str, Known | None]
    """State keys; None where statistics are missing."""
    action: dict[str, Known | None]
    """Action keys; None where statistics are missing. Relative actions are known by their relative statistics."""
    horizon: int | None
    """Action steps of this robot; None without a modality configuration."""
    language: tuple[str, ...]
    """Instruction keys."""
    lacks: tuple[str, ...]
    """What it needs before a policy can run it, such as "statistics state.gripper"."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything `svms-gr00t checkpoint inspect` says."""

    path: str
    """The folder."""
    version: str
    """Model family."""
    svms: bool
    """Whether the configuration has SVMS."""
    delta: dict[str, Any] | None
    """Base, its fingerprint and whether it is here; None for a whole checkpoint."""
    parameters: dict[str, int]
    """Numbers by component, as stored."""
    dtypes: dict[str, int]
    """Numbers by type, as stored."""
    total: int
    """All numbers stored."""
    stored_bytes: int
    """Their size in the files."""
    action_horizon: int
    """Steps of the model's chunk."""
    max_state_dim: int
    """Padded state width."""
    max_action_dim: int
    """Padded action width."""
    denoising_steps: int
    """Euler steps of the sampler."""
    embodiment_rows: int
    """Rows of the embodiment banks."""
    embodiments: tuple[Embodiment, ...]
    """Robots that the processor's files name."""
    missing: tuple[str, ...]
    """Tensors that the configuration needs and the files lack."""
    unexpected: tuple[str, ...]
    """Tensors that the configuration does not know."""
    misshapen: tuple[str, ...]
    """Tensors of another shape than the configuration says."""
    unused: tuple[str, ...]
    """Tensors that no forward reads; loading leaves them out."""
    files: dict[str, bool]
    """Processor files: present or not."""
    licence: str = LICENCE
    """What holds for the weights."""

    @property
    def loads(self) -> bool:
        """Whether the weights fit the configuration."""
        return not (self.missing or self.unexpected or self.misshapen)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self) | {"loads": self.loads}


def summarise(
    folder: Path,
    shapes_of: Callable[[Gr00tN1d6Config], dict[str, tuple[int, ...]]],
    *,
    files: dict[str, Stored] | None = None,
) -> Summary:
    """Look into a folder; `shapes_of` says which tensors a configuration needs, `files` where they are if elsewhere.

    Raises `CheckpointError` for folders that are no N1.6 checkpoint, with advice for other versions.
    """
    config = read_config(folder)
    own, whole, delta = _tensors(folder) if files is None else (files, files, None)
    if whole is not None:
        check_layers(config, whole, folder)
    wanted = shapes_of(config)
    refuse_other_weights(folder, own, wanted)
    unused = sorted(name for name in own if is_unused(name, config) and name not in wanted)
    parts: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for name, stored in own.items():
        parts["unused" if name in unused else component(name)] += stored.size
        types[str(stored.dtype).removeprefix("torch.")] += stored.size
    wrong = [n for n, shape in wanted.items() if n in (whole or {}) and (whole or {})[n].shape != shape]
    return Summary(
        path=str(folder),
        version="GR00T N1.6",
        svms=config.has_streams,
        delta=delta,
        parameters=dict(sorted(parts.items())),
        dtypes=dict(types),
        total=parts.total(),
        stored_bytes=sum(stored.nbytes for stored in own.values()),
        action_horizon=config.action_horizon,
        max_state_dim=config.max_state_dim,
        max_action_dim=config.max_action_dim,
        denoising_steps=config.num_inference_timesteps,
        embodiment_rows=config.max_num_embodiments,
        embodiments=_embodiments(folder),
        missing=() if whole is None else tuple(sorted(wanted.keys() - whole.keys())),
        unexpected=tuple(sorted(own.keys() - wanted.keys() - set(unused))),
        misshapen=tuple(sorted(wrong)),
        unused=tuple(unused),
        files={name: (folder / name).is_file() for name in PROCESSOR_FILES},
    )


def _tensors(folder: Path) -> tuple[dict[str, Stored], dict[str, Stored] | None, dict[str, Any] | None]:
    """The folder's own tensors, those of the model it makes (None: its base is not here), and the delta's base."""
    if not is_delta(folder):
        files = weight_files(folder)
        return files, files, None
    delta, own = read_delta(folder), weight_files(folder, STEM)
    base = base_here(delta)
    about = {"base": delta.source, "fingerprint": delta.fingerprint, "base_here": None if base is None else str(base)}
    return own, None if base is None else weight_files(base) | delta.tensors(base), about


def component(name: str) -> str:
    """Part of the model that a tensor belongs to."""
    return next((part for prefix, part in _COMPONENTS.items() if name.startswith(prefix)), "unknown")


def _embodiments(folder: Path) -> tuple[Embodiment, ...]:
    processor, statistics, ids = (_object(folder / name) for name in PROCESSOR_FILES[:3])
    hint = "take the files from the checkpoint's own release, or save it again"
    with named(folder, want="processor files of N1.6", hint=hint, fault=CheckpointError):
        settings = processor.get("processor_kwargs", {})
        configs, relative = dict(settings.get("modality_configs", {})), bool(settings.get("use_relative_action", True))
        tags = sorted(configs.keys() | statistics.keys())
        return tuple(_embodiment(t, configs.get(t), statistics.get(t, {}), ids.get(t), relative) for t in tags)


def _embodiment(
    tag: str, config: dict[str, Any] | None, statistics: dict[str, Any], row: int | None, relative: bool
) -> Embodiment:
    if config is None:
        seen = {kind: {k: _known(s) for k, s in statistics.get(kind, {}).items()} for kind in ("state", "action")}
        lacks: tuple[str, ...] = ("modality configuration",)
        return Embodiment(tag=tag, row=row, views=(), **seen, horizon=None, language=(), lacks=lacks)
    keys = {kind: tuple(config[kind]["modality_keys"]) for kind in ("video", "state", "action", "language")}
    meanings = config["action"].get("action_configs") or [{}] * len(keys["action"])
    kinds = {k: _statistic(meaning, relative) for k, meaning in zip(keys["action"], meanings, strict=True)}
    state = {k: _known(statistics.get("state", {}).get(k)) for k in keys["state"]}
    action = {k: _known(statistics.get(kind, {}).get(k)) for k, kind in kinds.items()}
    lacks = tuple(f"statistics state.{k}" for k, known in state.items() if known is None)
    lacks += tuple(f"statistics {kinds[k]}.{k}" for k, known in action.items() if known is None)
    lacks += () if row is not None else ("a row in embodiment_id.json",)
    return Embodiment(
        tag=tag,
        row=row,
        views=keys["video"],
        state=state,
        action=action,
        horizon=len(config["action"]["delta_indices"]),
        language=keys["language"],
        lacks=lacks,
    )


def _statistic(meaning: dict[str, Any], relative: bool) -> str:
    return "relative_action" if relative and str(meaning.get("rep", "")).lower() == "relative" else "action"


def _known(summary: dict[str, Any] | None) -> Known | None:
    low, high = ((summary or {}).get(name) for name in ("min", "max"))
    if not isinstance(low, list) or not isinstance(high, list) or not low or not high:
        return None
    width = len(low[0]) if isinstance(low[0], list) else len(low)  # relative actions: one row for each step
    return Known(width=width, low=min(_flat(low)), high=max(_flat(high)))


def _flat(values: list[Any]) -> list[float]:
    return [x for value in values for x in (_flat(value) if isinstance(value, list) else [float(value)])]


def _object(file: Path) -> dict[str, Any]:
    """A JSON object, empty when the file is absent."""
    if not file.is_file():
        return {}
    return read_raw(file, hint=AGAIN, fault=CheckpointError)
