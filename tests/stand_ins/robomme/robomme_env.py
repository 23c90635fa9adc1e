"""Naming the tasks says a word too many."""

import sys

sys.stdout.write("ManiSkill is pleased to meet you")
