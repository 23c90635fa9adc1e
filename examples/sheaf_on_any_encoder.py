"""Sheaf-coupled streams behind an ordinary Hugging Face encoder (random weights, no download, seconds on a laptop)."""

import torch
from transformers import BertConfig, BertModel

from svms_gr00t import SheafStreams

torch.manual_seed(0)
size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
encoder = BertModel(BertConfig(vocab_size=100, **size)).eval()
svms = SheafStreams(dim=64, streams=("what", "where", "when"), edges="cycle", d_stream=48, d_overlap=24, rank=8)
svms.eval()  # as the encoder: nothing is dropped, and the same tokens get the same answer twice

ids = torch.randint(1, 100, (2, 9))
mask = torch.tensor([[True] * 9, [True] * 6 + [False] * 3])
hidden = encoder(ids, attention_mask=mask).last_hidden_state
states = svms(hidden, mask)

print("fresh: every bit as before ->", torch.equal(states.tokens, hidden))
print("losses to add to yours     ->", {name: round(term.item(), 3) for name, term in states.terms.items()})
print("who speaks, first token    ->", [round(w, 2) for w in states.weights[0, 0].tolist()], svms.graph.streams)
print("disagreement, first token  ->", [round(r, 2) for r in states.rho[0, 0].tolist()], svms.graph.edge_names)
