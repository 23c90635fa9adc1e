"""RoboMME's import names and conventions without ManiSkill, to be driven in a process of its own.

Like the real one: an episode begins with every frame of a demonstration and the first of the robot's own, in lists; a
step gives lists of one; goals come several at a time; what cannot be executed is a status without frames; the library
prints; the wrist camera draws 128 pixels unless told otherwise. Unlike it: the demonstration of VideoUnmask shows a red
or a blue light in one early frame, and the task is won by turning the first joint left after red and right after blue.
"""
