"""What a robot sees and does, from a file: YAML or JSON in N1.6's own form, or Isaac-GR00T's Python registry, not run.

    video:    {modality_keys: [front, wrist]}
    state:    {modality_keys: [single_arm, gripper]}
    action:   {delta_indices: [0, .., 15], modality_keys: [single_arm, gripper],
               action_configs: [{rep: RELATIVE, type: NON_EEF, format: DEFAULT}, {rep: ABSOLUTE, ...}]}
    language: {modality_keys: [annotation.human.task_description]}

or the same under the robot's tag. Without delta_indices what is read is now, and a chunk has 16 steps. Of a Python file
only plain values are read, as data: names, lists, ranges, members of enumerations, and the call
`register_modality_config(config, embodiment_tag=EmbodimentTag.X)`.
"""

import ast
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import WATCHED_KEY
from svms_gr00t.data.processor.embodiment import EmbodimentConfig, known_tag
from svms_gr00t.data.processor.images import ColorJitter
from svms_gr00t.data.processor.processor import Processor

log = logging.getLogger(__name__)
_KINDS = ("video", "state", "action", "language")
_FORM = "a mapping of video, state, action and language"
_HINT = "docs/data.md shows the YAML form"
_RECORDS = ("ModalityConfig", "ActionConfig")
HORIZON = 16
_MOST = 10_000
"""Most steps of a range."""


def read_modality_config(path: Path, tag: str) -> EmbodimentConfig:
    """The robot `tag` of a file. Raises ConfigError for a file that does not say it."""
    if not path.is_file():
        raise ConfigError("--modality-config-path", got=str(path), want="a YAML file", hint=_HINT)
    python = path.suffix == ".py"
    value = _registered(path) if python else _loaded(path)
    if not set(value) <= set(_KINDS):
        name = known_tag(tag, value)
        if name not in value:
            hint = f"Pass --embodiment-tag {next(iter(value))}, or write {tag} there"
            raise ConfigError(str(path), got=sorted(value), want=f"the robot {tag}", hint=hint)
        value = value[name]
    if not isinstance(value, Mapping):
        raise ConfigError(str(path), got=type(value).__name__, want=_FORM, hint=_HINT)
    robot = EmbodimentConfig.from_dict({kind: _with_steps(kind, one) for kind, one in value.items()}, str(path))
    if python:
        log.warning("%s was read as data, not run. The same as YAML:\n%s", path, as_yaml(robot))
    return robot


def _with_steps(kind: str, value: Any) -> Any:
    """What is read now, and 16 steps of commands, where a file does not say."""
    if not isinstance(value, Mapping) or "delta_indices" in value:
        return value
    return {"delta_indices": list(range(HORIZON if kind == "action" else 1)), **value}


def as_yaml(robot: EmbodimentConfig) -> str:
    """The YAML form that reads back as this robot."""
    kinds = {kind: {k: v for k, v in value.items() if v is not None} for kind, value in robot.to_dict().items()}
    actions = [{k: v for k, v in one.items() if v is not None} for one in kinds["action"].get("action_configs", ())]
    if actions:
        kinds["action"]["action_configs"] = actions
    return yaml.safe_dump(kinds, sort_keys=False, default_flow_style=None, width=110)


def robot_for(robot: EmbodimentConfig, dataset: LeRobotDataset, views: tuple[str, ...] = ()) -> EmbodimentConfig:
    """The robot, all of whose keys the dataset has, with these cameras if any. Raises DataError."""
    if views:
        robot = replace(robot, video=replace(robot.video, modality_keys=views))
    modality = dataset.modality
    known: dict[str, list[str]] = {
        "video": list(modality.video),
        "state": list(modality.state),
        "action": list(modality.action),
        "language": [f"annotation.{key}" for key in modality.annotation if key != WATCHED_KEY],
    }
    for kind, names in known.items():
        if missing := [key for key in getattr(robot, kind).modality_keys if key not in names]:
            want = f"{kind} keys among {', '.join(names) or 'none'}"
            raise DataError("--modality-config-path", got=", ".join(missing), want=want, hint="See meta/modality.json")
    return robot


def augmented(processor: Processor, jitter: Mapping[str, float] | None, angle: float | None) -> Processor:
    """The processor with this colour jitter and rotation; none leaves its own. Raises ConfigError."""
    if not jitter and angle is None:
        return processor
    images = processor.config.images
    if jitter:
        off = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
        if unknown := sorted(jitter.keys() - off.keys()):
            hint = "Such as: brightness 0.3 contrast 0.4"
            raise ConfigError("--color-jitter-params", got=unknown, want=f"names among {', '.join(off)}", hint=hint)
        images = replace(images, jitter=ColorJitter(**off | dict(jitter)))
    images = images if angle is None else replace(images, max_angle=float(angle))
    return Processor(replace(processor.config, images=images), processor.tokenizer, processor.statistics)


def _loaded(path: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), got="broken YAML", want=_FORM, hint=" ".join(str(error).split())) from error
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(str(path), got=type(value).__name__, want=_FORM, hint=_HINT)
    return value


def _registered(path: Path) -> Mapping[str, Any]:
    """Tag -> configuration of every `register_modality_config` call at the top of a Python file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(str(path), got="broken Python", want="a YAML file", hint=_HINT) from error
    names, found = dict[str, ast.expr](), dict[str, Any]()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            names[node.target.id] = node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value) == "register":
            given = node.value.args + [word.value for word in node.value.keywords]
            tag = _value(given[1], names, path) if len(given) > 1 else "new_embodiment"
            found[str(tag).lower()] = _value(given[0], names, path)
    if not found:
        raise ConfigError(str(path), got="no register_modality_config(...)", want="a YAML file", hint=_HINT)
    return found


def _called(call: ast.Call) -> str:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    return "register" if name == "register_modality_config" else name


def _value(node: ast.expr, names: Mapping[str, ast.expr], path: Path, depth: int = 0) -> Any:
    """What a plain expression says. Raises ConfigError for one that would have to be run."""
    inside = lambda one: _value(one, names, path, depth + 1)  # noqa: E731
    match node:
        case _ if depth > 20:
            pass
        case ast.Constant(value=value):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [inside(part) for part in parts]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {inside(key): inside(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Attribute(attr=name):
            return name
        case ast.Name(id=name) if name in names:
            return inside(names[name])
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return inside(left) + inside(right)
        case ast.Call(args=[one], keywords=[]) if _called(node) == "list":
            return inside(one)
        case ast.Call(args=limits, keywords=[]) if _called(node) == "range":
            steps = range(*(int(inside(one)) for one in limits))
            if len(steps) <= _MOST:
                return list(steps)
        case ast.Call(args=[], keywords=words) if _called(node) in _RECORDS:
            return {str(word.arg): inside(word.value) for word in words}
    got = f"line {node.lineno}: {ast.unparse(node)[:60]}"
    raise ConfigError(str(path), got=got, want="plain values: a Python file is read, not run", hint=_HINT)
