"""English words: the base forms one may be inflected from (plurals, naive ones too, -ing and -ed), and closed classes.

>>> sorted(base_forms("placing"))
['plac', 'place', 'placing']
>>> "put" in base_forms("putting"), "knife" in base_forms("knives"), "strawberry" in base_forms("strawberrys")
(True, True, True)
"""

from functools import lru_cache

_IRREGULAR = {
    "took": "take",
    "taken": "take",
    "gave": "give",
    "given": "give",
    "held": "hold",
    "kept": "keep",
    "made": "make",
    "brought": "bring",
    "got": "get",
    "knives": "knife",
    "loaves": "loaf",
    "shelves": "shelf",
    "halves": "half",
    "leaves": "leaf",
    "dishes": "dish",
}


@lru_cache(maxsize=4096)
def singular_forms(word: str) -> frozenset[str]:
    """The word itself and every noun that it may be a plural of."""
    forms = {word, _IRREGULAR.get(word, word)}
    if word.endswith("s") and len(word) > 3:
        forms.add(word[:-1])
        if word.endswith("es"):
            forms.add(word[:-2])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
    return frozenset(forms)


@lru_cache(maxsize=4096)
def base_forms(word: str) -> frozenset[str]:
    """The word itself and every form that it may come from."""
    forms = {word, _IRREGULAR.get(word, word)}
    forms |= singular_forms(word)
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            forms |= {stem, stem + "e"}
            if len(stem) > 3 and stem[-1] == stem[-2]:
                forms.add(stem[:-1])
            if ending == "ed" and stem.endswith("i"):
                forms.add(stem[:-1] + "y")
    return frozenset(forms)


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


ARTICLES = words("the a an this that these those its their his her your my our any some each every all both either no")
PRONOUNS = words("it them they this that these those everything something him her you we he she i me us")
NUMBERS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty"
    " thirty forty fifty sixty seventy eighty ninety hundred dozen both half twice"
)
ORDINALS = words("first second third fourth fifth sixth last")
COPULAS = words(
    "is are theres theyre was were be been being am isnt arent gets become becomes becoming seems looks feels"
)
MODALS = words(
    "can could should would will may might must shall cannot cant has have had havent hasnt does did dont not"
)
CONJUNCTIONS = words("and or but nor as than with without of who which what whose whom that there if")
PREPOSITIONS = words(
    "in on at into onto from off out under underneath beneath below above over behind beside between near by inside"
    " outside to towards toward against across along alongside around among through within upon atop next"
)
SPATIAL = PREPOSITIONS | words("down away back together left right here there")
QUANTIFIERS = words("few several many much more most less least other another same different own enough only various")
NOTHING = (ARTICLES | PRONOUNS | COPULAS | MODALS | CONJUNCTIONS | QUANTIFIERS | words("please too also per")) - {
    "both",
    "if",
}
BEFORE_VERB = words("and then to finally next once please afterwards afterward lastly first now also or dont not can")
BEFORE_GERUND = words(
    "by for before after while when start starts begin begins continue finish finishes finished stop avoid keep done"
    " help begun started without of until prepare"
)
SWITCHING = words("turn switch keep power leave toggle shut flip twist set make put")
SETTING = words("set adjust turn change increase decrease raise lower reduce switch crank preheat heat cook toast dial")
LETTING = words("let help allow watch")
MOTION = words("lift raise move come slide push pull flip face point bring climb reach go hang")
CONTAINERS = words(
    "board bowl pan pot plate tray dish sheet rack table counter room area surface cup glass spoon knife platter"
    " utensil utensils tool tools station bin bag box container basket pin machine supplies cloth jug mat space zone"
)
