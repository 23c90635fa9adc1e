"""What a phase trains: gradients on exactly those parameters, eval mode for every frozen part."""

from collections.abc import Iterator

from torch import nn

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.optimizers.optimizer import OptimizerName, master_dtype
from svms_gr00t.train.phases import Phase


def trainable_names(model: Gr00tN1d6, phase: Phase) -> list[str]:
    """Names of the parameters that the phase trains."""
    return [name for name, _ in model.named_parameters() if phase.trains(name, model.config)]


def prepare(model: Gr00tN1d6, phase: Phase, optimizer: OptimizerName = "adamw") -> dict[str, nn.Parameter]:
    """Switch gradients, modes and types for a phase; the parameters that train, by name. Old gradients are dropped.

    What trains is stored as the optimiser wants it; frozen weights stay as they were loaded. A module whose parameters
    are all frozen goes to eval mode with everything inside it. One without parameters, such as a dropout, goes with
    what it stands in. Raises TrainingError when nothing trains.
    """
    chosen = set(trainable_names(model, phase))
    if not chosen:
        hint = "Use plain_counterpart(phase), or switch SVMS on"
        raise TrainingError(f"phase {phase.name}", got="nothing trains", want="a parameter to train", hint=hint)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
        parameter.grad = None
        if name in chosen:
            parameter.data = parameter.data.to(master_dtype(optimizer))
    to_training_mode(model)
    return {name: parameter for name, parameter in model.named_parameters() if name in chosen}


def to_training_mode(model: nn.Module) -> None:
    """What `prepare` does to modes alone, for loops that call `train()` before every step."""
    model.train()
    for module in _frozen(model):
        module.eval()


def _frozen(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        owned = [parameter.requires_grad for parameter in module.parameters()]
        if owned and not any(owned):
            yield module
