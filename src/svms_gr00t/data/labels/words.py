"""Base forms an English word may be inflected from: plurals (naive ones too), -ing and -ed. No dictionary.

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
