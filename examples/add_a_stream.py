"""A fourth stream, Safety, is four words in the configuration: no class, no tensor, no loss is edited."""

import torch

from svms_gr00t import SheafStreams, SvmsConfig

config = SvmsConfig(
    stream_names=("visual", "temporal", "state", "safety"),
    n_streams=4,
    stream_edges=(("visual", "temporal"), ("temporal", "state"), ("visual", "safety"), ("state", "safety")),
    d_stream=48,
    d_overlap=24,
    adapter_rank=8,
)
torch.manual_seed(0)
svms = SheafStreams.from_config(config, dim=64)
print(svms)

# Labels exist for the first three streams only; Safety learns from the task and from agreeing with its neighbours.
tokens, mask = torch.randn(8, 16, 64), torch.ones(8, 16, dtype=torch.bool)
labels, target = torch.eye(3)[torch.randint(0, 3, (8, 16))], torch.randn(8, 16, 64)
optimiser = torch.optim.AdamW(svms.parameters(), lr=3e-3)
for step in range(61):
    states = svms(tokens, mask, labels=labels)
    task = (states.tokens - target).square().mean()
    loss = task + 0.1 * (states.terms["sheaf"] + states.terms["collapse"]) + 0.5 * states.terms["aux"]
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 20 == 0:
        rho = dict(zip(svms.graph.edge_names, states.rho.mean((0, 1)).tolist(), strict=True))
        print(f"step {step:2d}  task {task.item():.3f}  rho", {name: round(value, 2) for name, value in rho.items()})
