"""The tiny base: plain N1.6 of tiny size trained from random weights on kitchen demonstrations, everything at once.

It stands for NVIDIA's checkpoint where none can be had: both models of a demo start from it.
"""

import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.schedules import cosine

CLIP, WEIGHT_DECAY = 1.0, 1e-5


def pretrain(
    dataset_path: Path | str,
    output: Path,
    *,
    steps: int,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    seed: int = 0,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> int:
    """Train and save a bfloat16 policy folder; returns the steps done. `minutes` bounds the time by cutting `steps`.

    The speed is measured over the first 20 steps, so with `minutes` the number of steps depends on the machine: give
    `steps` alone to repeat a run.
    """
    experiment = Experiment.prepare(dataset_path, seed=seed, validation=0.05, progress=progress)
    batches = Batches(experiment.first_samples(train=True, progress=progress), batch_size, seed)
    model = experiment.model(use_sheaf_streams=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    began = time.monotonic()
    step = 0
    with (progress or Silent()).task("pretraining", steps) as bar:
        while step < steps:
            torch.manual_seed(seed * 1_000_003 + step)
            loss = model(replace(batches(step), labels=None, label_mask=None, label_weight=None)).terms["flow"]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * cosine(step, steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            step += 1
            bar.advance()
            bar.note(f"flow {float(loss.detach()):.3f}")
            if minutes is not None and step == 20:
                steps = min(steps, int(20 * minutes * 60 / (time.monotonic() - began)))
    Policy(model.bfloat16(), experiment.processor).save_pretrained(output)
    return step
