"""LeRobot's ACT beside N1.6 and SVMS in our kitchen: same demonstrations and scenes, LeRobot's own commands.

    python benchmarks/lerobot_kitchen.py OUTPUT          in LeRobot's environment (tools/against_lerobot.sh makes one)

Demonstrations are recorded and converted, ACT trains from random weights; a tiny plain N1.6 trains from random weights
too, and from it plain and SVMS go on with phase 3 for equal steps. `lerobot-eval` judges all on the scenes of
`evaluate rollout --seed 0`. What OUTPUT holds already is kept. Prints the table; OUTPUT/commands.txt has the commands.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.evaluate.statistics.stats import wilson
from svms_gr00t.recipes.pretrain import pretrain
from svms_gr00t.sim.record import record

SMALL = "dim_model=128 n_heads=4 dim_feedforward=512 chunk_size=16 n_action_steps=8 optimizer_lr=0.0003"
ACT = ["--policy.type=act", "--policy.pretrained_backbone_weights=null", "--policy.optimizer_lr_backbone=0.0003"]
ACT += [f"--policy.{flag}" for flag in SMALL.split()]
N1D6 = ["--policy.type=svms_gr00t", "--policy.embodiment_tag=robocasa_panda_omron", "--policy.phase=3"]
N1D6 += ["--policy.optimizer_lr=0.0003"]


def main() -> None:
    """Whatever is missing, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--task", default="StartCoffeeMachine", help="one that words do not decide: ACT reads none")
    parser.add_argument("--demonstrations", type=int, default=60)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2500, help="of ACT, 8 samples each")
    parser.add_argument("--base-steps", type=int, default=1500, help="of the plain base, 32 samples each")
    parser.add_argument("--phase-steps", type=int, default=500, help="of phase 3, 8 samples each")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--only", nargs="*", default=["act", "plain", "svms"])
    args = parser.parse_args()
    out, data, v3, base = args.output, args.output / "demos", args.output / "demos_v3", args.output / "base"
    out.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        record(data, episodes=args.demonstrations, seed=11, tasks=[args.task], image_size=args.pixels)
    if not v3.exists():
        convert_to_v3(data, v3)
    before = out / "base_minutes.json"
    if not base.exists() and set(args.only) - {"act"}:
        begun = spent()
        pretrain(data, base, steps=args.base_steps, seed=args.seed)
        before.write_text(json.dumps(spent() - begun), encoding="utf-8")
    ours = [*N1D6, f"--policy.base_model_path={base}"]
    arms = {
        "act": ("ACT of LeRobot", args.steps, ACT),
        "plain": ("N1.6 tiny", args.phase_steps, [*ours, "--policy.use_sheaf_streams=false"]),
        "svms": ("N1.6 tiny with SVMS", args.phase_steps, ours),
    }
    lines = ["| policy | steps x samples | CPU minutes | success | 95 % (Wilson) |", "|---|---:|---:|---:|---:|"]
    for name in args.only:
        title, steps, flags = arms[name]
        run, seen = out / name, out / f"eval_{name}"
        took = run / "minutes.json"
        if not took.exists():
            fixed = f"device=cpu push_to_hub=false --dataset.repo_id=local/demos --dataset.root={v3} --batch_size=8"
            fixed += f" --dataset.video_backend=pyav --num_workers=0 --wandb.enable=false --seed={args.seed}"
            fixed += f" --steps={steps} --save_freq={steps} --output_dir={run}"
            minutes = lerobot(out, "train", *flags, *f"--policy.{fixed}".replace(" push", " --policy.push").split())
            took.write_text(json.dumps(minutes), encoding="utf-8")
        if not (seen / "eval_info.json").exists():
            judged = f"--policy.path={run}/checkpoints/last/pretrained_model --policy.device=cpu --seed=0"
            judged += f" --env.type=svms_kitchen --env.task={args.task} --env.scenes=0 --env.image_size={args.pixels}"
            judged += f" --eval.n_episodes={args.scenes} --eval.batch_size=1 --output_dir={seen}"
            lerobot(out, "eval", *judged.split())
        told = json.loads((seen / "eval_info.json").read_text(encoding="utf-8"))["per_task"][0]["metrics"]["successes"]
        rate, minutes = wilson(sum(told), len(told)), json.loads(took.read_text(encoding="utf-8"))
        assert rate is not None
        span = f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"
        lines.append(f"| {title} | {steps:,} x 8 | {minutes:.1f} | {sum(told)} of {len(told)} | {span} |")
    print("\n".join(lines))
    if before.exists():
        cost = json.loads(before.read_text(encoding="utf-8"))
        print(f"Both N1.6 rows begin with one plain base: {args.base_steps:,} x 32, {cost:.1f} CPU minutes.")


def spent() -> float:
    """CPU minutes of this process and of those it has waited for."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each) / 60


def lerobot(out: Path, name: str, *flags: str) -> float:
    """Run one of LeRobot's commands, write it down; its CPU minutes. Raises CalledProcessError when it fails."""
    command = [str(Path(sys.executable).parent / f"lerobot-{name}"), *flags]
    with (out / "commands.txt").open("a", encoding="utf-8") as file:
        file.write(" ".join([f"lerobot-{name}", *flags]) + "\n")
    begun = spent()
    subprocess.run(command, check=True)
    return spent() - begun


if __name__ == "__main__":
    main()
