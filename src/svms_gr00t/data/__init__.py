"""Demonstrations in, model inputs out: LeRobot files, statistics, images, prompts, labels, batches."""
