"""The embedded counter kitchen: environment, tasks, scripted experts, recording and replay. Needs the `sim` extra.

Importing this names the kitchen to gymnasium, where that is installed: `gymnasium.make("svms_gr00t/Kitchen-v0")`
for the single-frame suite, `"svms_gr00t/KitchenMemory-v0"` for the one in which the past decides.
"""

from contextlib import suppress

with suppress(ImportError):
    from gymnasium import register as _register

    # The longest horizon of a suite's tasks; a simulator is built when one is made, not here.
    _KITCHEN = "svms_gr00t.sim.env:KitchenEnv"
    _register("svms_gr00t/Kitchen-v0", entry_point=_KITCHEN, max_episode_steps=200)
    _register("svms_gr00t/KitchenMemory-v0", entry_point=_KITCHEN, max_episode_steps=300, kwargs={"suite": "memory"})
