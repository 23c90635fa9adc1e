"""One process of a data-parallel run: four steps of phase 3 on a small kitchen. Started by test_parts.py."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from torch.distributed.tensor import DTensor

from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.shares import Share, shared_batches
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import END_TO_END
from svms_gr00t.train.processes.sharding import shard
from svms_gr00t.train.processes.start import cluster
from svms_gr00t.train.towers.recompute import recompute_blocks

dataset, folder = Path(sys.argv[1]), Path(sys.argv[2])
here = cluster()
switches: dict[str, object] = {
    "router_stream_dropout_p": 0.0,
    "router_balance_weight": 0.0,
    "lambda_sheaf_max": 0.0,
    "lambda_sheaf_min": 0.0,
}
if len(sys.argv) > 3:
    switches["grounded_targets"] = tuple(sys.argv[3].split(","))
experiment = Experiment.prepare(dataset, base=shipped("tiny_base"), svms=switches)
batches = shared_batches(
    Batches(experiment.first_samples(train=True), 8, 0), Share(rank=here.rank, world=here.world), 8
)
model = experiment.model(use_sheaf_streams=True, base=shipped("tiny_base"))
if here.sharded:
    recompute_blocks(model)  # neither this nor sharding may change a number
phase = replace(END_TO_END, steps=4, learning_rate=1e-4)
train_phase(
    model, phase, batches, RunDir(folder), config=LoopConfig(log_every=1, checkpoint_every=2, keep_last=2), cluster=here
)
if here.sharded:
    shard(model)
    cut = [p for p in model.parameters() if isinstance(p, DTensor)]
    held = {"all": sum(p.numel() for p in cut), "here": sum(p.to_local().numel() for p in cut)}
    (folder / f"held_{here.rank}.json").write_text(json.dumps(held))
