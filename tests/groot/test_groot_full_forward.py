"""The released sizes once in bfloat16 on the CPU: random weights, one view, an action chunk and the training losses."""

import subprocess
import sys

import pytest

RUN = """
import resource, time, torch
from dataclasses import replace
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6

with torch.device("meta"):
    model = Gr00tN1d6(Gr00tN1d6Config(use_sheaf_streams=True))
model.to(torch.bfloat16).to_empty(device="cpu")
for part in (model.backbone, model.action_head, model.svms):
    part.reset_parameters()
model.eval()
ids = torch.tensor([[151644, 872, *[151669] * 81, 151645, 198]])
inputs = ModelInputs(
    images=(torch.rand(3, 252, 252) * 2 - 1,),
    input_ids=ids,
    attention_mask=torch.ones_like(ids, dtype=torch.bool),
    state=torch.randn(1, 1, 128).bfloat16(),
    embodiment_id=torch.tensor([13]),
    action=torch.randn(1, 50, 128).bfloat16(),
    action_mask=torch.ones(1, 50, 128).bfloat16(),
)
start = time.perf_counter()
with torch.no_grad():
    sampled = model.sample(inputs, generator=torch.Generator().manual_seed(0))
    terms = model(inputs, generator=torch.Generator().manual_seed(0)).terms
took = time.perf_counter() - start
assert sampled.action.shape == (1, 50, 128) and sampled.action.isfinite().all()
assert sampled.features.tokens.shape == (1, 85, 2048) and sampled.states.rho.shape == (1, 85, 2)
assert all(term.isfinite() for term in terms.values())
plain = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("svms."))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(plain, sum(p.numel() for p in model.parameters()), f"{peak:.2f}", f"{took:.1f}")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_size_forward_in_bfloat16_fits_a_small_machine(capsys):
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    plain, total, peak, took = done.stdout.split()
    with capsys.disabled():
        sys.stdout.write(f"\nfull size: {int(total):,} parameters, peak {peak} GiB, sample and loss in {took} s\n")
    assert int(plain) == 3_286_610_368 - 310_640_640 - 15_238_352 - 1_536  # lm_head, pooling head, mask token
    assert int(total) == int(plain) + 17_718_535
    assert float(peak) < 1.15 * 2 * int(total) / 2**30 + 1.5  # the weights, and what Python and torch need
