"""Other words for the embedded kitchen's instructions: sentences that no demonstration has."""

import re
from collections.abc import Iterable

from svms_gr00t.sim.tasks import TASKS


def kitchen_paraphrases(instructions: Iterable[str]) -> dict[str, str]:
    """Instruction -> held-out wording of the same task and target, for those that are the kitchen's own."""
    found = {}
    for text in instructions:
        for task in TASKS.values():
            for phrasing in task.phrasings:
                pattern = re.escape(phrasing).replace(re.escape("{target}"), f"(?P<target>{'|'.join(task.targets)})")
                if match := re.fullmatch(pattern, text):
                    found[text] = task.held_out[0].format(**match.groupdict())
    return found
