"""Context rules of the token labels: which reading a word has at its place in an instruction.

Each rule takes one word with its neighbours and answers a label; its first line shows the readings that it separates.
"""

from collections.abc import Callable

from svms_gr00t.data.labels.lexicon import ARRANGED, NONE, STATE, TEMPORAL, VISUAL, Values
from svms_gr00t.data.labels.place import Place
from svms_gr00t.data.labels.words import (
    ARTICLES,
    BEFORE_GERUND,
    BEFORE_VERB,
    CONJUNCTIONS,
    COPULAS,
    MOTION,
    NUMBERS,
    ORDINALS,
    PRONOUNS,
    QUANTIFIERS,
    SETTING,
    SPATIAL,
    SWITCHING,
    base_forms,
    words,
)

_TIME = words("second seconds minute minutes hour hours timestep timesteps moment while")
_RANKED = words("highest lowest shelf rack tray row level drawer from tier layer top bottom floor closest largest")
_SCALED = words("heat temperature speed setting settings power flame level medium pressure intensity volume mode")


def _switch(p: Place) -> Values:
    """turn it *on*, keep the water *on*, the stove is *on* | *on* the counter, take *off* the lid"""
    if p.before in ("to", "still", "stays", "stay", "already", "currently"):
        return STATE if not p.begins_noun_phrase() else VISUAL
    if p.governed_by(SWITCHING):
        direct = base_forms(p.before) & (SWITCHING - {"keep", "leave", "make", "put", "set"})
        if direct or not (p.begins_noun_phrase() or p.thing() or p.knows("where", 1)):
            return STATE
    if p.before in COPULAS and (not p.after or p.after in CONJUNCTIONS | BEFORE_VERB or p.knows("verbs", 1)):
        return STATE
    return VISUAL


def _to(p: Place) -> Values:
    """*to* wash it | *to* the sink | set it *to* low heat"""
    if p.after == "be":
        return TEMPORAL
    if not p.after or p.before in ("next", "close", "closest", "adjacent", "opposite"):
        return VISUAL
    if not p.begins_noun_phrase() and p.after not in SPATIAL:
        if _infinitive(p):
            return TEMPORAL
        if p.after.endswith("ly") and p.knows("verbs", 2):
            return TEMPORAL
    head = p.head()
    value = head.knows("state") or head.word.isdigit() or head.word in NUMBERS or head.word in ("on", "off")
    coloured = head.knows("looks") and not head.thing()
    if p.governed_by(SETTING) and (value or coloured):
        return NONE
    if value and not head.knows("things", 1) and not head.thing() and p.after not in ARTICLES:
        return NONE
    return VISUAL


def _infinitive(p: Place) -> bool:
    """Whether a verb follows `to`: not an adjective or noun of a goal, as in *to open* shelves."""
    verb = p.knows("verbs", 1)
    goal = p.knows("things", 1) or p.knows("state", 1)
    if verb and not goal:
        return True
    if verb:
        if p.begins_noun_phrase(2) or p.at(2) in SPATIAL - {"in", "on", "at", "next"}:
            return True
        return not (
            p.governed_by(MOTION | words("transfer carry return add take place")) and (p.thing(2) or not p.at(2))
        )
    unknown = not any(p.knows(kind, 1) for kind in ("visual", "temporal", "state", "both", "none"))
    return unknown and p.begins_noun_phrase(2)


def _for(p: Place) -> Values:
    """*for* cleaning, *for* ten seconds | the burner *for* the pan"""
    ahead = [p.at(k) for k in range(1, 5)]
    for k, word in enumerate(ahead, start=1):
        if word in (
            "second",
            "seconds",
            "minute",
            "minutes",
            "hour",
            "hours",
            "timesteps",
            "timestep",
            "moment",
            "while",
        ):
            return TEMPORAL
        if word not in ARTICLES | QUANTIFIERS | NUMBERS and not word.isdigit():
            break
        if k == 1 and word in ARTICLES - {"a", "any"}:
            break
    if p.after in ARTICLES | PRONOUNS:
        return NONE
    for k in (1, 2, 3):
        word = p.at(k)
        if p.knows("purposes", k) or (word.endswith("ing") and not p.knows("things", k)):
            return TEMPORAL
        if p.knows("things", k) and not p.knows("verbs", k):
            return TEMPORAL if _activity(p, k) else NONE
        if p.begins_noun_phrase(k) or word in SPATIAL:
            return NONE
    return NONE


def _activity(p: Place, k: int) -> bool:
    """A noun that names what is done to it: for faucet *cleaning*."""
    word = p.at(k + 1)
    return word.endswith("ing") and p.knows("verbs", k + 1) and not p.knows("things", k + 1)


def _by(p: Place) -> Values:
    """*by* pouring water | *by* the sink"""
    if p.after.endswith("ly"):
        return TEMPORAL
    if p.after in p.lexicon.none:
        return NONE
    return TEMPORAL if p.after.endswith("ing") and p.after not in p.lexicon.things else VISUAL


def _up(p: Place) -> Values:
    """pick *up*, clean it *up* | the lever comes *up*"""
    return VISUAL if not p.governor() or p.governed_by(MOTION) else TEMPORAL


def _can(p: Place) -> Values:
    """the *can* | it *can* be washed"""
    modal = (
        p.i == 0
        or p.after in ("be", "not", "you")
        or (p.knows("verbs", 1) and (p.before.endswith("s") or p.before in PRONOUNS))
    )
    modal = modal or (p.knows("verbs", 1) and not p.knows("things", 1) and not p.describes())
    return NONE if modal else VISUAL


def _ordinal(p: Place) -> Values:
    """*second* shelf | the *second* cup | one *second* | *first*, wash it"""
    rank = words(
        "highest lowest shelf rack tray row level drawer from tier layer top bottom floor closest largest biggest"
    )
    if p.after in rank or (p.after.endswith("est") and p.describes()):
        return VISUAL
    if p.word == "second" and (p.before in NUMBERS or p.before.isdigit()):
        return TEMPORAL
    if p.word in ("first", "last", "second", "third") and not p.describes():
        return TEMPORAL
    return STATE


def _done(p: Place) -> Values:
    """when *done*, once *finished* | is *done* steaming"""
    return STATE if p.before in COPULAS and p.at(-2) not in ("when", "once", "after", "until", "you") else TEMPORAL


def _degree(p: Place) -> Values:
    """*low* heat, to *high* | the *lowest* shelf"""
    if p.word == "lower" and p.begins_noun_phrase() and p.starts_clause():
        return TEMPORAL
    if p.after in _SCALED:
        return STATE
    ended = not p.thing() and p.after not in ("shelf", "rack", "drawer", "cabinet")
    return STATE if ended and (p.before in ("to", "at", "running", "is", "on") or p.governed_by(SETTING)) else VISUAL


def _button(p: Place) -> Values:
    """press *start* | *start* the microwave"""
    pressed = base_forms(p.before) & {"press", "push", "hit", "tap"} and not p.begins_noun_phrase()
    return VISUAL if pressed or p.after in ("button", "buttons", "key", "knob", "switch") else TEMPORAL


def _do(p: Place) -> Values:
    """*do* the same | *do* not touch"""
    return NONE if p.after in ("not", "you") else TEMPORAL


def _storage(p: Place) -> Values:
    """for *storage* | from *storage*"""
    return TEMPORAL if "for" in (p.before, p.at(-2)) else VISUAL


def _hold(p: Place) -> Values:
    """*hold* the button | the bowl *holding* the waffle"""
    if p.word == "holds" or (p.word == "holding" and p.before not in BEFORE_GERUND | {"and"}):
        return NONE
    return TEMPORAL


def _directly(p: Place) -> Values:
    """*directly* next to"""
    return VISUAL if p.after in SPATIAL or p.knows("where", 1) else TEMPORAL


def _down(p: Place) -> Values:
    """upside *down* | put it *down*"""
    return ARRANGED if p.before in ("upside", "face", "facing") else VISUAL


def _rest(p: Place) -> Values:
    """the *rest* of them | *rest* the lid on the pot"""
    return NONE if p.before == "the" else TEMPORAL


def _that(p: Place) -> Values:
    """so *that* | the bowl *that* contains"""
    return TEMPORAL if p.before == "so" else NONE


RULES: dict[str, Callable[[Place], Values]] = {
    **dict.fromkeys(("on", "off"), _switch),
    **dict.fromkeys(ORDINALS, _ordinal),
    **dict.fromkeys(("done", "finished", "completed"), _done),
    **dict.fromkeys(("low", "high", "lowest", "highest", "lower", "higher"), _degree),
    **dict.fromkeys(("holding", "holds", "hold"), _hold),
    **dict.fromkeys(("directly", "immediately"), _directly),
    **dict.fromkeys(("start", "stop", "pause"), _button),
    "do": _do,
    "to": _to,
    "for": _for,
    "by": _by,
    "up": _up,
    "down": _down,
    "can": _can,
    "storage": _storage,
    "rest": _rest,
    "that": _that,
}
"""Words whose reading the neighbours decide."""
