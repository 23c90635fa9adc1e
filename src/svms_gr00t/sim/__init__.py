"""The embedded counter kitchen: environment, tasks, scripted experts, recording and replay. Needs the `sim` extra.

Importing this names the kitchen to gymnasium, where that is installed: `gymnasium.make("svms_gr00t/Kitchen-v0")`.
"""

from contextlib import suppress

with suppress(ImportError):
    from gymnasium import register as _register

    # The longest horizon of a task; a simulator is built when one is made, not here.
    _register("svms_gr00t/Kitchen-v0", entry_point="svms_gr00t.sim.env:KitchenEnv", max_episode_steps=200)
