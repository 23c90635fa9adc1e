"""W&B and trackio, whose runs have a name elsewhere; the run folder remembers it, so a resumed training goes on there.

RUN/tracking.json   project, name and id of the run in each library
RUN/wandb/          W&B's files, unless WANDB_DIR names another folder
RUN/trackio/        trackio's, unless TRACKIO_DIR does: TRACKIO_DIR=RUN/trackio trackio show
"""

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.files.documents import dump_json, read_json
from svms_gr00t.core.files.whole import whole_file

log = logging.getLogger(__name__)
Library = Literal["wandb", "trackio"]
FILE = "tracking.json"


class Identity(BaseModel):
    """What a run is called in one library."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    project: str
    name: str
    id: str | None = None
    """Of W&B; trackio has none that one may choose."""


class Identities(BaseModel):
    """tracking.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    wandb: Identity | None = None
    trackio: Identity | None = None


def identity(run: Path, library: Library, *, project: str | None = None, name: str | None = None) -> Identity:
    """What the run in folder `run` is called: as given, else as before, else by WANDB_PROJECT and WANDB_NAME, else
    svms-gr00t and the folder's name.

    Raises TrainingError when it began in another project, which no run leaves, DataError for a broken file.
    """
    before: Identity | None = getattr(_known(run), library)
    if before is None:
        project = project or os.environ.get("WANDB_PROJECT") or "svms-gr00t"
        name = name or os.environ.get("WANDB_NAME") or run.resolve().name
        return Identity(project=project, name=name, id=_new_id() if library == "wandb" else None)
    if project not in (None, before.project):
        hint = f"Leave --tracker-project out; to begin a new run, delete {run / FILE}"
        raise TrainingError("--tracker-project", got=project, want=f"{before.project}, where it began", hint=hint)
    return before.model_copy(update={"name": name or before.name})


def remember(run: Path, library: Library, found: Identity) -> None:
    """Write down what the run is called, whole or not at all."""
    known = _known(run).model_copy(update={library: found})
    with whole_file(run / FILE) as partial:
        dump_json(partial, known.model_dump(exclude_none=True))


def _known(run: Path) -> Identities:
    file, want = run / FILE, "what the run is called on W&B and trackio"
    hint = "Delete it, which begins a new run there"
    return read_json(Identities, file, want=want, hint=hint) if file.is_file() else Identities()


def _new_id() -> str:
    return os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12]


class Wandb:
    """A run of W&B; the step is a number of its own, since W&B drops rows whose step it has seen."""

    def __init__(self, run: Path, project: str | None, name: str | None, config: dict[str, Any]) -> None:
        import wandb

        found = identity(run, "wandb", project=project, name=name)
        folder = os.environ.get("WANDB_DIR") or str(run)
        try:
            self._run = wandb.init(
                project=found.project,
                name=found.name,
                id=found.id,
                resume="allow",
                dir=folder,
                config=config,
                allow_val_change=True,  # the phases may be chosen anew
            )
        except wandb.errors.Error as error:
            got, hint = (
                " ".join(str(error).split()).rstrip("."),
                "WANDB_MODE=offline keeps it in the run folder for `wandb sync`",
            )
            raise TrainingError("--tracker wandb", got=got, want="a run on W&B (`wandb login`)", hint=hint) from error
        remember(run, "wandb", found)
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, numbers: Mapping[str, float], *, step: int) -> None:
        """One row."""
        self._run.log({"step": step, **numbers})

    def close(self, *, failed: bool = False) -> None:
        """Finish; a run that failed is shown as that."""
        self._run.finish(exit_code=int(failed))


class Trackio:
    """A run of trackio, which keeps everything in one folder for each process."""

    def __init__(self, run: Path, project: str | None, name: str | None, config: dict[str, Any]) -> None:
        given = os.environ.get("TRACKIO_DIR")
        wanted = Path(given or run / "trackio").resolve()
        os.environ["TRACKIO_DIR"] = str(wanted)  # read once, when the library loads
        try:
            import trackio
            from trackio.utils import TRACKIO_DIR
        finally:
            del os.environ["TRACKIO_DIR"]
            os.environ |= {} if given is None else {"TRACKIO_DIR": given}
        if wanted != Path(TRACKIO_DIR).resolve():
            log.warning("trackio was loaded before this run began, so it writes to %s", TRACKIO_DIR)
        found = identity(run, "trackio", project=project, name=name)
        resume = "never" if _known(run).trackio is None else "allow"
        self._run = trackio.init(project=found.project, name=found.name, resume=resume, config=config)
        remember(run, "trackio", found)

    def log(self, numbers: Mapping[str, float], *, step: int) -> None:
        """One row."""
        self._run.log(dict(numbers), step=step)

    def close(self, *, failed: bool = False) -> None:
        """Write what is left."""
        self._run.finish()
