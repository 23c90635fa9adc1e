"""Train the tiny tokenizer that ships with the package: `python tools/make_tiny_tokenizer.py [folder]`.

A small grammar writes kitchen sentences, the prompt frame is added, and a byte-level BPE of 1,024 entries (256 bytes,
merges, the 37 special tokens of N1.6) is learned from them. The same seed gives the same file, byte for byte.
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from svms_gr00t.data.processor.prompt import SYSTEM, formalize_language
from svms_gr00t.data.processor.tokenizer import SPECIAL_TOKENS, TextTokenizer, byte_level_bpe

SEED = 20
SENTENCES = 20_000
ENTRIES = 1024

VERBS = "pick up|take|grab|lift|bring|fetch|hold|move|carry|get|retrieve|grasp|remove"
PUTS = "place|put|set|drop|leave|stack|return|store|insert|release"
PUSHES = "push|slide|pull|press|rotate|turn|tap|shake|wipe|pour|stir|flip|touch|reach|wash|heat|start|stop"
OBJECTS = (
    "cube|ball|block|box|cylinder|can|apple|banana|lemon|orange|pear|peach|tomato|potato|carrot|onion|garlic|pepper|"
    "corn|bread|cheese|egg|milk|butter|cup|mug|bowl|plate|pan|pot|kettle|bottle|jar|glass|spoon|fork|knife|spatula|"
    "sponge|towel|lid|tray|basket|cereal|coffee|tea|water|bag|object|cake|fish|meat|"
    "tower|ring|peg|mushroom|cucumber|salt|sugar|rice|soup|sausage|chicken|chocolate|juice|can opener|dish"
)
FIXTURES = "drawer|door|cabinet|fridge|microwave|oven|dishwasher|lid|window"
DEVICES = "stove|burner|sink|faucet|toaster|blender|light|lamp|fan|coffee machine|microwave|oven|kettle"
CONTROLS = "knob|button|lever|switch|handle|slider|dial|plug"
PLACES = (
    "counter|table|shelf|rack|plate|bowl|tray|drawer|cabinet|sink|pan|basket|fridge|stove|cutting board|pad|bin|"
    "target|goal|corner|edge|countertop|cupboard|stovetop|refrigerator|zone|square|circle|island|wall"
)
COLOURS = "red|green|blue|yellow|white|black|grey|purple|brown|pink"
SIDES = "left|right|front|rear|back|top|bottom|upper|lower|middle|center|near|far"
SIZES = "small|large|big|little|tall|short|full|empty|hot|cold|open|closed|round|flat|warm|clean|dirty|upright|heavy"
PREPOSITIONS = "on|in|into|onto|inside|under|over|above|below|behind|beside|next to|near|to|from|at|between|in front of"
ENDS = (
    "slowly|gently|carefully|quickly|fully|completely|again|twice|once|all the way|partly|securely|without spilling|"
    "for five seconds|ten degrees|with the robot arm|with the gripper|with the left hand|now"
)
LINKS = "then|and then|and|after that|before you|while you|until it stops then|when done"


class Grammar:
    """Random kitchen sentences."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def word(self, choices: str) -> str:
        return self._random.choice(choices.split("|"))

    def maybe(self, choices: str, chance: float) -> str:
        return self.word(choices) + " " if self._random.random() < chance else ""

    def thing(self) -> str:
        many = self._random.random()
        if many < 0.08:
            return f"{self.word('all|both|one of the|two|three|four|five|the other|every')} {self.word(OBJECTS)}s"
        colour, size = self.maybe(COLOURS, 0.5), self.maybe(SIZES, 0.2)
        return f"{self.word('the|the|the|a')} {size}{colour}{self.word(OBJECTS)}"

    def place(self) -> str:
        return f"{self.word(PREPOSITIONS)} the {self.maybe(SIDES, 0.4)}{self.maybe(COLOURS, 0.2)}{self.word(PLACES)}"

    def clause(self) -> str:
        kind = self._random.randrange(6)
        if kind == 0:
            return f"{self.word(VERBS)} {self.thing()} from the {self.maybe(SIDES, 0.4)}{self.word(PLACES)}"
        if kind == 1:
            return f"{self.word(PUTS)} {self.word('it|them|' + self.thing())} {self.place()}"
        if kind == 2:
            return f"{self.word('open|close|shut')} the {self.maybe(SIDES, 0.5)}{self.word(FIXTURES)}"
        if kind == 3:
            return f"{self.word('turn|switch')} {self.word('on|off')} the {self.maybe(SIDES, 0.4)}{self.word(DEVICES)}"
        if kind == 4:
            side = self.word("clockwise|to the left|to the right|forward|up|down")
            return f"{self.word(PUSHES)} the {self.maybe(COLOURS, 0.3)}{self.word(CONTROLS)} {side}"
        return f"{self.word('pick up|move|pick')} {self.thing()} and {self.word(PUTS)} it {self.place()}"

    def sentence(self) -> str:
        text = self.clause()
        if self._random.random() < 0.4:
            text += f" {self.word(LINKS)} {self.clause()}"
        return text + (" " + self.word(ENDS) if self._random.random() < 0.3 else "")


def train(seed: int = SEED) -> TextTokenizer:
    """The tokenizer for a seed."""
    grammar = Grammar(seed)
    sentences = [formalize_language(grammar.sentence()) for _ in range(SENTENCES)]
    texts = ["\n" + sentence for sentence in sentences]
    texts += [f"system\n{SYSTEM}", "user\n", "<image 1>", "<image 2>", "<image 3>"] * (SENTENCES // 50)
    frame = byte_level_bpe({}, [])
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = frame.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = ENTRIES - len(SPECIAL_TOKENS)
    learner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(learner.to_str())["model"]
    return TextTokenizer(byte_level_bpe(model["vocab"], [tuple(merge) for merge in model["merges"]]))


def main(folder: Path) -> None:
    tokenizer = train()
    tokenizer.save(folder)
    origin = {
        "made_by": "tools/make_tiny_tokenizer.py",
        "seed": SEED,
        "sentences": SENTENCES,
        "vocab_size": tokenizer.vocab_size,
        "image_token_id": tokenizer.image_token_id,
        "pad_id": tokenizer.pad_id,
    }
    (folder / "origin.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    shipped = Path(__file__).parents[1] / "src" / "svms_gr00t" / "assets" / "tiny_tokenizer"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else shipped)
