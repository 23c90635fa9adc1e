"""Parity with NVIDIA's N1.6 at commit e8e625f on recorded cases, intermediate tensors included."""

import pytest
import torch

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.action_head import PLAIN, Shortcuts
from svms_gr00t.groot.checkpoint.golden import compare, load_case, run_case

CASES = ("full_alternate", "full_plain_dit", "full_released_shape")


@pytest.mark.parametrize("shortcuts", [Shortcuts(), PLAIN], ids=["lean", "plain"])
@pytest.mark.parametrize("case", CASES)
def test_every_recorded_tensor_agrees(shared, case, shortcuts):
    # Same operations in float32 on CPU; only reassociation noise is allowed.
    differences = compare(shared / "golden" / case, shortcuts=shortcuts)
    assert len(differences) >= 24
    assert {name: gap for name, gap in differences.items() if gap > 1e-5} == {}


def test_the_comparison_notices_swapped_halves_of_the_output_modulation(shared):
    model, inputs, recorded = load_case(shared / "golden" / "full_alternate")
    out = model.action_head.model.proj_out_1
    with torch.no_grad():
        out.weight.copy_(out.weight.roll(len(out.weight) // 2, 0))
        ours = run_case(model, inputs)
    assert (ours["dit_output"] - recorded["dit_output"]).abs().max() > 1e-2
    torch.testing.assert_close(ours["dit_block.3"], recorded["dit_block.3"], atol=1e-5, rtol=0)


def test_a_plain_dit_that_hides_padding_is_the_same_without_padding(shared):
    model, inputs, recorded = load_case(shared / "golden" / "full_plain_dit")
    model.action_head.model.mask_padding = True
    with torch.no_grad():
        ours = run_case(model, inputs)
    torch.testing.assert_close(ours["sampled_actions"], recorded["sampled_actions"], atol=1e-5, rtol=0)


def test_a_folder_that_is_no_case_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        compare(tmp_path)
