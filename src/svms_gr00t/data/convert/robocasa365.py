"""RoboCasa365 as published -> the same data under the names that the released N1.6 checkpoint knows.

Only modality.json changes: cameras and instruction get a second name, states and actions keep theirs. The new folder
shares the large files with the source by hard links where the file system allows it, else it copies them.

The action order is checked against the numbers, never assumed: copies of RoboCasa in EEF-first order are around.
"""

import os
import shutil
from filecmp import cmp
from pathlib import Path

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import dump_json
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.init_modality import Proposal, propose_for
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.staging import Staging
from svms_gr00t.data.processor.embodiment import ROBOCASA_PANDA_OMRON


def aliased(source: Path) -> Proposal:
    """The source's modality with the checkpoint's names added. Raises DataError when it is no RoboCasa365 dataset."""
    proposal = propose_for(source)
    given = source / "meta" / "modality.json"
    kept = Modality.load(given).to_dict() if given.is_file() else {}
    added = proposal.modality.to_dict()
    # Slices come from the numbers; further names of the file are kept beside them.
    value = {kind: added.get(kind, {}) | _others(kept.get(kind, {}), added.get(kind, {})) for kind in added}
    modality = Modality.from_dict(value)
    robot = ROBOCASA_PANDA_OMRON
    wanted = [("video", key) for key in robot.video.modality_keys]
    wanted += [("state", key) for key in robot.state.modality_keys]
    wanted += [("action", key) for key in robot.action.modality_keys]
    missing = [f"{kind}.{key}" for kind, key in wanted if key not in getattr(modality, kind)]
    if missing:
        hint = "This is for PandaOmron data with 16 state and 12 action numbers; see svms-gr00t data init-modality"
        want = "RoboCasa365 as published"
        raise DataError(source, got=f"no {', '.join(missing)}", want=want, hint=hint)
    return Proposal(modality=modality, reasons=proposal.reasons)


def _others(kept: dict[str, object], added: dict[str, object]) -> dict[str, object]:
    return {key: entry for key, entry in kept.items() if key not in added}


def convert_robocasa365(source: Path, target: Path, *, progress: Progress | None = None) -> Proposal:
    """Make `target` from `source`; the same call goes on with an interrupted one. Raises DataError."""
    proposal = aliased(source)
    with Staging(target, {"converter": "robocasa365", "source": str(source.resolve())}) as staging:
        names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
        with (progress or Silent()).task("linking files", len(names)) as task:
            for name in names:
                if not _is_meta(name):
                    _share(staging, source / name, name)
                task.advance()
        for name in filter(_is_meta, names):
            (staging.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, staging.folder / name)  # never a link: these files are edited
        dump_json(staging.folder / "meta" / "modality.json", proposal.modality.to_dict())
        LeRobotDataset.open(staging.folder)
        staging.finish()
    return proposal


def _share(staging: Staging, file: Path, name: str) -> None:
    """Link a file, or copy it; one of an interrupted run stays where it is still the source's."""
    made = staging.folder / name
    if made.is_file() and not made.samefile(file) and not cmp(file, made, shallow=False):
        made.unlink()
    staging.make(name, lambda path: _link(file, path))


def _is_meta(name: str) -> bool:
    return name.startswith("meta/")


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, path)
