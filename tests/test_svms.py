"""What SVMS owes: a fresh one is the identity, padding is nowhere, names are only names, every weight learns."""

import copy
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.core.types import Features, StreamStates
from svms_gr00t.sheaf.diffusion import spectral_bound
from svms_gr00t.sheaf.energy import energy
from svms_gr00t.svms import SheafStreams

DIM = 20
SMALL = {"d_stream": 12, "d_overlap": 8, "rank": 3}


def features(dtype: torch.dtype = torch.float32, batch: int = 3, length: int = 11) -> Features:
    """Left-padded rows, each with at least two real tokens."""
    start = torch.randint(0, length - 2, (batch, 1))
    mask = torch.arange(length) >= start
    return Features(
        tokens=torch.randn(batch, length, DIM, dtype=torch.float64).to(dtype),
        mask=mask,
        image_mask=mask & (torch.arange(length) < start + 1),
    )


def trained(svms: SheafStreams) -> SheafStreams:
    """Every parameter away from its special start, as after training."""
    with torch.no_grad():
        for parameter in svms.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return svms.eval()


def labelled(f: Features, n_labels: int = 3) -> dict[str, Tensor]:
    labels = (torch.rand(*f.mask.shape, n_labels) > 0.5).float()
    return {"labels": labels, "label_mask": f.mask & ~f.image_mask, "label_weight": torch.tensor([1.0, 2.0, 9.0])}


# ---- identity


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_svms_returns_every_bit_of_its_input(dtype, training):
    svms, f = SheafStreams(DIM, **SMALL).to(dtype).train(training), features(dtype)
    assert torch.equal(svms(f).tokens, f.tokens)
    nn.init.normal_(svms.merge.weight, std=0.1)
    assert not torch.equal(svms(f).tokens, f.tokens), "the check must be able to fail"


def test_bf16_tokens_pass_through_fp32_weights_untouched():
    """Phase 1: a frozen bf16 backbone, fp32 masters in SVMS, with and without autocast."""
    svms, f = SheafStreams(DIM, **SMALL), features(torch.bfloat16)
    assert torch.equal(svms(f).tokens, f.tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(svms(f).tokens, f.tokens)


def test_it_stays_fresh_when_a_plain_checkpoint_is_loaded():
    svms, f = SheafStreams(DIM, **SMALL), features()
    svms.load_state_dict({}, strict=False)
    assert torch.equal(svms(f).tokens, f.tokens)


# ---- λ


def grown(svms: SheafStreams, by: float) -> dict[str, Tensor]:
    """Its state with larger maps and the λ of the maps before, as a checkpoint in the middle of training has it."""
    state = {name: value.clone() for name, value in svms.state_dict().items()}
    state["delta.up"] *= by
    return state


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("absent", [True, False], ids=["no λ in the file", "a stale λ in the file"])
def test_lambda_follows_loaded_maps(training, absent):
    svms = SheafStreams(DIM, **SMALL)
    state = grown(svms, 5.0)
    if absent:
        del state["diffusion.lambda_max"]
    other = SheafStreams(DIM, **SMALL).train(training)
    other.load_state_dict(state, strict=not absent)
    assert other.diffusion.lambda_max.item() == pytest.approx(25 * svms.diffusion.lambda_max.item(), rel=1e-4)
    assert other.diffusion.lambda_max.item() == pytest.approx(spectral_bound(other.delta).item(), rel=1e-6)
    f = features()
    other.eval()(f)  # and acting uses it: with the λ of before, a step would be 25 times too long
    assert other.diffusion.lambda_max.item() == pytest.approx(25 * svms.diffusion.lambda_max.item(), rel=1e-4)


def test_the_energy_of_a_model_loaded_with_larger_maps_cannot_grow():
    svms = SheafStreams(DIM, **SMALL)
    state = grown(svms, 5.0)
    stale = copy.deepcopy(svms).eval()
    stale.delta.load_state_dict({name.removeprefix("delta."): v for name, v in state.items() if "delta." in name})
    loaded = SheafStreams(DIM, **SMALL).eval()
    loaded.load_state_dict(state)
    x = torch.randn(2, 3, 3, 12)
    before = energy(loaded.delta(x))
    assert (energy(loaded.delta(loaded.diffusion(x, loaded.delta))) <= before).all()
    assert (energy(stale.delta(stale.diffusion(x, stale.delta))) > before).any(), "the check must be able to fail"


# ---- padding


def test_padding_changes_no_value_no_loss_and_no_gradient():
    svms, f = trained(SheafStreams(DIM, **SMALL)), features()
    extra = labelled(f)
    results = []
    for poison in (0.0, 1e6, float("nan")):
        tokens = torch.where(f.mask[..., None], f.tokens, poison)
        svms.zero_grad()
        states = svms(Features(tokens=tokens, mask=f.mask, image_mask=f.image_mask), **extra)
        valid = states.tokens[f.mask]
        (valid.square().sum() + sum(states.terms.values())).backward()
        gradients = [p.grad.clone() for p in svms.parameters()]
        results.append([valid.detach(), *states.terms.values(), states.rho, states.weights, *gradients])
        assert torch.equal(states.tokens[~f.mask].nan_to_num(-1), tokens[~f.mask].nan_to_num(-1)), "padding was touched"
        assert states.rho[~f.mask].abs().max() == states.weights[~f.mask].abs().max() == 0
    for clean, *dirty in zip(*results, strict=True):
        assert all(torch.equal(clean, other) for other in dirty)


def test_acting_leaves_no_trace_of_padding_in_the_evidence():
    svms, f = trained(SheafStreams(DIM, **SMALL)).eval(), features()
    results = []
    for poison in (0.0, float("nan")):
        tokens = torch.where(f.mask[..., None], f.tokens, poison)
        with torch.no_grad():
            states = svms(Features(tokens=tokens, mask=f.mask, image_mask=f.image_mask), losses=False)
        results.append([states.tokens[f.mask], states.streams, states.rho, states.weights, states.aux_logits])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


def test_more_padding_changes_nothing():
    svms, f = trained(SheafStreams(DIM, **SMALL)).double(), features(torch.float64)
    longer = Features(
        tokens=nn.functional.pad(f.tokens, (0, 0, 5, 0), value=7.0),
        mask=nn.functional.pad(f.mask, (5, 0)),
        image_mask=nn.functional.pad(f.image_mask, (5, 0)),
    )
    a, b = svms(f), svms(longer)
    torch.testing.assert_close(b.tokens[:, 5:], a.tokens)
    for name, value in a.terms.items():
        torch.testing.assert_close(b.terms[name], value)


def test_image_tokens_cost_no_label_loss_and_padding_none_even_if_labelled():
    svms, f = trained(SheafStreams(DIM, **SMALL)), features()
    extra = labelled(f)
    aux = svms(f, **extra).terms["aux"]
    extra["labels"][~extra["label_mask"]] = 0.5
    assert torch.equal(svms(f, **extra).terms["aux"], aux)
    everywhere = svms(f, labels=extra["labels"], label_mask=torch.ones_like(f.mask)).terms["aux"]
    torch.testing.assert_close(everywhere, svms(f, labels=extra["labels"]).terms["aux"])


# ---- relabelling


def test_the_order_of_streams_is_only_a_name():
    order, names = [2, 0, 1], ("visual", "temporal", "state")
    edges = (("visual", "temporal"), ("temporal", "state"))
    a = trained(SheafStreams(DIM, streams=names, edges=edges, **SMALL)).double()
    b = SheafStreams(DIM, streams=tuple(names[i] for i in order), edges=edges, **SMALL).double().eval()

    def moved(name: str, value: Tensor) -> Tensor:
        owner, _, rest = name.partition(".")
        if owner in ("delta", "diffusion") or name in ("merge.bias", "router.temperature", "router.inner.bias"):
            return value
        if (owner == "heads" and not rest.startswith("project")) or owner == "labels" or rest.startswith("outer"):
            return value[order]
        axis = -1 if owner in ("merge", "router") else 0  # blocks of D along inputs, or along outputs
        return (
            value.unflatten(axis, (3, -1))
            .index_select(axis - 1 if axis < 0 else 0, torch.tensor(order))
            .reshape_as(value)
        )

    b.load_state_dict({name: moved(name, value) for name, value in a.state_dict().items()})
    f = features(torch.float64)
    x, y = a(f), b(f)
    torch.testing.assert_close(y.tokens, x.tokens)
    torch.testing.assert_close(y.weights, x.weights[..., order])
    torch.testing.assert_close(y.aux_logits, x.aux_logits[..., order])
    torch.testing.assert_close(y.terms, x.terms)


def test_the_order_of_the_batch_and_of_tokens_does_not_matter():
    svms, f = trained(SheafStreams(DIM, **SMALL)).double(), features(torch.float64)
    rows, columns = torch.randperm(3), torch.randperm(11)
    shuffled = Features(**{k: getattr(f, k)[rows][:, columns] for k in ("tokens", "mask", "image_mask")})
    torch.testing.assert_close(svms(shuffled).tokens, svms(f).tokens[rows][:, columns])
    torch.testing.assert_close(svms(shuffled).terms, svms(f).terms)


# ---- learning


def test_every_trainable_tensor_learns_from_the_flow_loss_after_one_step():
    """W = 0 blocks the gradient to the streams for exactly one step; the label heads never see the flow loss."""
    svms, f = SheafStreams(DIM, **SMALL), features()
    target = torch.randn_like(f.tokens)
    optimiser = torch.optim.AdamW(svms.parameters(), lr=1e-2)
    reached = []
    for _ in range(2):
        optimiser.zero_grad()
        (svms(f).tokens - target)[f.mask].square().mean().backward()
        reached.append({n for n, p in svms.named_parameters() if p.grad is not None and p.grad.abs().max() > 0})
        optimiser.step()
    assert reached[0] == {"merge.weight", "merge.bias"}
    assert reached[1] == {n for n, _ in svms.named_parameters() if not n.startswith("labels.")}


def test_all_but_the_merge_learns_from_the_terms():
    svms, f = SheafStreams(DIM, **SMALL), features()
    sum(svms(f, **labelled(f)).terms.values()).backward()
    reached = {n for n, p in svms.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached == {n for n, _ in svms.named_parameters() if not n.startswith("merge.")}


def test_the_gradient_is_right():
    svms = trained(SheafStreams(4, d_stream=3, d_overlap=2, rank=2)).double()
    mask = torch.tensor([[False, True, True, True]])
    extra = {"labels": torch.ones(1, 4, 3, dtype=torch.float64), "label_mask": mask}

    def forward(tokens: Tensor) -> tuple[Tensor, ...]:
        states = svms(Features(tokens=tokens, mask=mask, image_mask=~mask & mask), **extra)
        return (states.tokens, *states.terms.values())

    assert torch.autograd.gradcheck(forward, (torch.randn(1, 4, 4, dtype=torch.float64, requires_grad=True),))


def test_two_forwards_before_one_backward():
    """Gradient accumulation and checkpointing: a buffer that autograd needs must not be overwritten."""
    svms, f = SheafStreams(DIM, **SMALL), features()
    nn.init.normal_(svms.merge.weight)
    (svms(f).tokens.sum() + svms(f).tokens.sum()).backward()


# ---- terms and settings


def test_terms_are_named_and_aux_appears_only_with_labels():
    svms, f = SheafStreams(DIM, **SMALL), features()
    assert set(svms(f).terms) == {"sheaf", "collapse", "balance"}
    assert set(svms(f, **labelled(f)).terms) == {"sheaf", "collapse", "balance", "aux"}
    assert not svms(f, losses=False).terms
    assert "aux" not in SheafStreams(DIM, use_aux=False, **SMALL)(f, **labelled(f)).terms


def test_the_monitor_and_the_loss_read_the_streams_before_the_correction():
    f = features()
    one = trained(SheafStreams(DIM, **SMALL))
    many = copy.deepcopy(one)
    many.diffusion.steps = 50
    a, b = one(f), many(f)
    assert torch.equal(a.rho, b.rho)
    assert torch.equal(a.terms["sheaf"], b.terms["sheaf"])
    assert many.delta(b.streams).square().sum() < 0.9 * one.delta(a.streams).square().sum(), (
        "the correction did correct"
    )


def test_every_setting_of_the_configuration_arrives():
    config = SvmsConfig(
        stream_names=("a", "b", "c", "d"), n_streams=4, stream_edges="cycle", d_stream=16, d_overlap=6, adapter_rank=5,
        sheaf_unroll_steps=3, router_stream_dropout_p=0.25, router_temp_init=1.5, use_aux_losses=False,
    )  # fmt: skip
    svms = SheafStreams.from_config(config, DIM)
    assert svms.graph.edge_names == ("a-b", "b-c", "c-d", "d-a")
    assert svms.delta.up.shape == (2, 4, 6, 5)
    assert svms.delta.down.shape == (2, 4, 5, 16)
    assert (svms.diffusion.steps, svms.router.dropout_p, svms.use_aux) == (3, 0.25, False)
    assert svms.router.temperature.item() == 1.5


def test_a_fourth_stream_is_a_config_change_with_three_labels():
    streams = ("visual", "temporal", "state", "safety")
    svms, f = SheafStreams(DIM, streams=streams, edges="complete", **SMALL), features()
    states = svms(f, **labelled(f, n_labels=3))
    assert torch.equal(states.tokens, f.tokens)
    assert states.rho.shape[-1] == 6
    assert states.weights.shape[-1] == states.aux_logits.shape[-1] == 4
    states.terms["aux"].backward()
    assert svms.labels.weight.grad[3].abs().max() == 0 < svms.labels.weight.grad[:3].abs().max()


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="0 or more"):
        SheafStreams(DIM, unroll_steps=-1)


@pytest.mark.parametrize(("edges", "n_edges"), [("path", 2), ("cycle", 3)])
def test_the_parameter_budget_at_full_size(edges, n_edges):
    """17.72 M on the path: 0.54 % of N1.6. Each further edge costs two maps 768 -> 128 -> 384."""
    with torch.device("meta"):
        svms = SheafStreams(2048, edges=edges)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in svms.named_children()}
    maps = 2 * n_edges * (768 * 128 + 128 * 384)
    router = 2 * 2304 + 2304 * 256 + 256 + 256 * 3 + 3
    merge = 3 * 768 * 2048 + 2048
    heads = 3 * 3_936_768
    assert count == {"heads": heads, "delta": maps, "diffusion": 1, "labels": 2307, "router": router, "merge": merge}
    assert sum(count.values()) == 17_718_535 + (n_edges - 2) * 294_912
    assert f"{sum(count.values()):,} parameters" in repr(svms)


# ---- numerics and deployment


def test_bf16_stays_within_two_percent_of_fp32():
    """bf16 keeps 8 bits; five matrix products in a row lose a few of them, not more."""
    svms, f = trained(SheafStreams(DIM, **SMALL)), features()
    exact = svms(f)
    half = copy.deepcopy(svms).bfloat16()(Features(tokens=f.tokens.bfloat16(), mask=f.mask, image_mask=f.image_mask))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = svms(f)
    for other in (half, mixed):
        off = (other.tokens.float() - exact.tokens)[f.mask].norm() / exact.tokens[f.mask].norm()
        assert off < 0.02
        for name, value in exact.terms.items():
            torch.testing.assert_close(other.terms[name].float(), value, rtol=0.02, atol=0.02)


COMPILED = """
import torch
from svms_gr00t.core.types import Features
from svms_gr00t.svms import SheafStreams

torch.manual_seed(0)
svms = SheafStreams(20, d_stream=12, d_overlap=8, rank=3, dropout_p=0.0)
torch.nn.init.normal_(svms.merge.weight)
mask = torch.arange(11) >= torch.tensor([[0], [4]])
f = Features(tokens=torch.randn(2, 11, 20), mask=mask, image_mask=mask & ~mask)
labels = torch.rand(2, 11, 3).round()
for training in (True, False):
    svms.train(training)
    compiled = torch.compile(svms, fullgraph=True, backend="aot_eager")
    for tau in (2.0, 0.7):  # a buffer: no recompilation, and the new value counts
        svms.set_temperature(tau)
        with torch._dynamo.config.patch(error_on_recompile=tau != 2.0):
            a, b = compiled(f, labels=labels, label_mask=mask), svms(f, labels=labels, label_mask=mask)
        torch.testing.assert_close((a.tokens, a.rho, a.weights, a.terms), (b.tokens, b.rho, b.weights, b.terms))
    a.tokens.sum().backward()
"""


@pytest.mark.whole
def test_compiles_as_one_graph_and_agrees():
    """In its own process: the shape checks of this test run are themselves no graph."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_checkpoint_round_trips_strictly_and_brings_lambda_along():
    a, f = trained(SheafStreams(DIM, **SMALL)), features()
    a.set_temperature(0.6)
    b = SheafStreams(DIM, **SMALL).eval()
    b.load_state_dict(a.state_dict(), strict=True)
    # `trained` moved the maps in training mode; eval() and loading both bring λ up to date.
    torch.testing.assert_close(a.diffusion.lambda_max, b.diffusion.lambda_max)
    assert torch.equal(a(f).tokens, b(f).tokens)


def test_a_meta_device_build_becomes_fresh_after_reset():
    with torch.device("meta"):
        svms = SheafStreams(DIM, **SMALL)
    svms.to_empty(device="cpu").reset_parameters()
    f = features()
    states = svms(f)
    assert torch.equal(states.tokens, f.tokens)
    assert all(p.isfinite().all() for p in svms.state_dict().values())
    assert states.rho[f.mask].mean().item() == pytest.approx(1.0, abs=0.3), "fresh streams are unrelated"


def test_acting_takes_at_most_fifty_eager_kernels():
    """The count does not depend on size. At batch 1 a GPU spends its time launching them."""
    cost = runpy.run_path(str(Path(__file__).resolve().parents[1] / "benchmarks" / "speed" / "svms_cost.py"))
    svms, f = SheafStreams(DIM, **SMALL).eval(), features()
    assert sum(cost["kernels"](lambda: svms(f, losses=False)).values()) <= cost["TARGET"]
    assert sum(cost["kernels"](lambda: cost["naive"](svms, f)).values()) > cost["TARGET"]


def test_states_move_as_one_record():
    states = SheafStreams(DIM, **SMALL)(features())
    assert isinstance(states.to("cpu"), StreamStates)


# ---- plain tensors


def test_plain_tensors_are_the_same_as_features() -> None:
    svms, f = trained(SheafStreams(DIM, **SMALL)), features()
    expected = svms(f)
    bare = svms(f.tokens, f.mask.long())  # as a tokenizer's attention_mask
    assert torch.equal(bare.tokens, expected.tokens)
    assert torch.equal(bare.rho, expected.rho)
    assert not Features(tokens=f.tokens, mask=f.mask).image_mask.any()
    padded = f.tokens.clone()
    padded[~f.mask] = 7.0
    assert torch.equal(svms(padded, f.mask).rho, expected.rho)
    assert not torch.equal(svms(padded).rho, expected.rho), "without a mask every token counts"


@pytest.mark.parametrize(
    ("tokens", "mask", "said"),
    [
        (torch.randn(2, 9, 32), None, r"float32 of shape \(2, 9, 32\), but need floating .* 20\).*dim=32"),
        (torch.randn(9, DIM), None, r"shape \(9, 20\), but need"),
        (torch.ones(2, 9, DIM, dtype=torch.long), None, "int64 of shape"),
        (
            torch.randn(2, 9, DIM),
            torch.ones(2, 8) > 0,
            r"mask: found bool of shape \(2, 8\), but need .*\(2, 9\)",
        ),
        (torch.randn(2, 9, DIM), torch.zeros(2, 9), "mask: found float32"),
    ],
)
def test_tokens_and_masks_of_another_shape_are_named(tokens: Tensor, mask: Tensor | None, said: str) -> None:
    svms = SheafStreams(DIM, **SMALL)
    with pytest.raises(DataError, match=said):
        svms(tokens, mask)
    with pytest.raises(DataError, match="one of the two"):
        svms(features(), torch.ones(3, 11, dtype=torch.bool))
