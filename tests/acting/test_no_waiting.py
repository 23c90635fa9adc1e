"""Between its inputs and its actions the model reads nothing back and is fed nothing: the path can be captured.

On the meta device no tensor has a value, so a forward that runs there cannot have asked for one.
"""

from dataclasses import replace

import pytest
import torch
from launches import Launches

from svms_gr00t.core.types import ModelInputs, Moments
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.fast.forms import fit
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.memory.synthetic import synthetic_inputs

KINDS = {
    "plain": {"use_sheaf_streams": False},
    "SVMS": {},
    "SVMS with memory": {"memory_offsets": (-16, -8)},
    "memory alone": {"memory_offsets": (-16, -8), "memory_only": True},
}
MOST = "SVMS with memory"
"""It does all that the others do."""


def config(name: str = "n1d6", **changes: object) -> Gr00tN1d6Config:
    return preset(name).config(load_tokenizer("tiny"), **({"use_sheaf_streams": True} | changes))


def asked(model: Gr00tN1d6, inputs: ModelInputs, device: str, noise: torch.Tensor | None = None) -> Launches:
    """The second call's: what the first one remembers (angles, positions, the schedule) serves all later ones."""
    noise = torch.zeros_like(inputs.action) if noise is None else noise
    model.sample(inputs, noise=noise)
    with Launches(device) as log:
        model.sample(inputs, noise=noise)
    return log


def there(size: Gr00tN1d6Config, rows: int, *, views: int) -> tuple[Gr00tN1d6, ModelInputs]:
    """A model and a batch of it without values."""
    with torch.device("meta"):
        model = Gr00tN1d6(size).eval()
    inputs = synthetic_inputs(size, rows, views=views).to("meta")
    if size.memory_offsets:
        moments = torch.empty(rows, 2, model.svms.memory.size.block, size.d_stream, device="meta")
        known = torch.empty(rows, 2, dtype=torch.bool, device="meta")
        inputs = replace(inputs, past=Moments(values=moments, valid=known))
    return model, inputs


@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.whole), 3])
@pytest.mark.parametrize("kind", [MOST, *(pytest.param(one, marks=pytest.mark.whole) for one in KINDS if one != MOST)])
def test_the_released_size_acts_without_waiting(kind, rows):
    model, inputs = there(config(**KINDS[kind]), rows, views=3)
    log = asked(model, inputs, "meta")
    assert log.waits == []
    assert log.fed == []
    assert log.total > 1000


@pytest.mark.whole
def test_a_padded_form_is_all_that_a_graph_needs():
    size = config(**KINDS["SVMS with memory"])
    model, _ = there(size, 2, views=3)
    moments = (2, model.svms.memory.size.block, size.d_stream, torch.float32)
    inputs = fit(synthetic_inputs(size, 2), size.image_token_index, 16, moments)
    assert inputs.layout.padded
    assert inputs.input_ids.shape[1] == 304
    log = asked(model, inputs.to("meta"), "meta", noise=synthetic_inputs(size, 2).action.to("meta"))
    assert (log.waits, log.fed) == ([], [])


def narrow(full: Gr00tN1d6Config) -> Gr00tN1d6Config:
    """The released depth in little width: as many launches, in little time."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    dit = {"num_attention_heads": 2, "attention_head_dim": 16, "output_dim": 16}
    other = {"backbone_embedding_dim": 32, "input_embedding_dim": 32, "hidden_size": 16, "max_num_embodiments": 1}
    return replace(
        full,
        vision_config=replace(full.vision_config, **sizes),
        text_config=replace(full.text_config, num_key_value_heads=1, head_dim=16, **sizes),
        diffusion_model_cfg=replace(full.diffusion_model_cfg, **dit),
        **{"d_stream": 16, "d_overlap": 8, "adapter_rank": 4, "max_state_dim": 8, "max_action_dim": 8} | other,
    )


LAUNCHES = {"plain": 2590, "SVMS": 2639}
"""Of one action at the released depth, one row, nothing padded."""


@pytest.mark.parametrize("kind", LAUNCHES)
def test_an_action_costs_so_many_launches(kind):
    size = narrow(config(**KINDS[kind]))
    log = asked(Gr00tN1d6(size).eval(), synthetic_inputs(size, 1, views=3, side=56), "cpu")
    assert log.total <= LAUNCHES[kind], log.kernels.most_common()
    assert log.total > 0.95 * LAUNCHES[kind], "fewer: state the new number"


def test_without_what_collate_knows_it_would_wait():
    model, inputs = there(config("tiny"), 1, views=1)
    with pytest.raises(NotImplementedError, match="meta"):
        model.sample(replace(inputs, layout=None), noise=torch.zeros_like(inputs.action))


@pytest.mark.parametrize("slip", ["read", "feed", "mask", "fetch"])
def test_the_log_notices_a_slip(slip):
    x = torch.arange(4.0)
    with Launches("cpu") as log:
        if slip == "read":
            bool(x.sum() > 1)
        elif slip == "mask":
            x[x > 1]
    if slip in ("read", "mask"):
        assert log.waits
        return
    with Launches("meta") as log:
        there = torch.empty(4, device="meta")
        if slip == "feed":
            there + x.to("meta")
            assert log.fed
        else:
            with pytest.raises(NotImplementedError):
                there.cpu()
