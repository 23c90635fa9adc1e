"""Naming the tasks says a word too many."""

import sys

import gymnasium

for task in ("PickXtimes", "VideoUnmask"):
    gymnasium.register(task, entry_point="robomme.env_record_wrapper:Episode")
sys.stdout.write("ManiSkill is pleased to meet you\n")
