"""The records that stages hand to one another: frozen, shape-typed, moved between devices as one value.

Axes: B batch, T tokens, M model width, S streams, E edges, D stream width, H action horizon, Ds state width, Da action
width, h and w pixels (multiples of 28), K past steps, Q moments of a step, P image tokens, W width of a state token,
R different earlier steps of a batch, G numbers of grounded targets, N tokens of one kind in the longest row.

What `collate` writes into a `Layout` decides every shape of a forward: which rows are padded, how many tokens of a kind
there are, who shares an embodiment. A model that is given one reads no tensor back between its inputs and its actions,
which is what a CUDA graph needs; without one it reads the ids once, and gets the same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from svms_gr00t.core.errors import DataError

Record = TypeVar("Record", bound="Movable")


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Movable):
        return value.map(change)
    if isinstance(value, tuple):
        return tuple(_mapped(v, change) for v in value)
    return value


class Movable:
    """Base of frozen dataclasses of tensors, of tuples of them, and of other such records."""

    def to(self: Record, device: torch.device | str) -> Record:
        """The same record with every tensor on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self: Record, change: Callable[[Tensor], Tensor]) -> Record:
        """The same record with every tensor changed."""
        values = {f.name: _mapped(getattr(self, f.name), change) for f in fields(self)}  # type: ignore
        return replace(self, **values)  # type: ignore

    def pin_memory(self: Record) -> Record:
        """The same record where a GPU fetches it while the host goes on; data loaders call it so."""
        return self.map(Tensor.pin_memory)


@dataclass(frozen=True, kw_only=True)
class Places(Movable):
    """Where the tokens of one kind stand, in order."""

    index: Int[Tensor, "B N"] | None
    """Their columns; rows of fewer tokens are filled up with others. None: every token of every row."""
    real: Bool[Tensor, "B N"] | None
    """False on what fills up; None when nothing does."""
    heard: Bool[Tensor, " B"] | None
    """False on rows without such a token; None when every row has one."""


EVERYTHING = Places(index=None, real=None, heard=None)


@dataclass(frozen=True, kw_only=True)
class Layout(Movable):
    """Where everything stands in one batch."""

    text: Places
    """Real tokens that are no image's."""
    image: Places
    """Image tokens."""
    every: Places
    """Both."""
    image_at: Int[Tensor, " _N"]
    """Image placeholders in the batch read row by row."""
    padded: bool
    """Whether any row has padding."""
    embodiments: tuple[int, ...] | None = None
    """Row of the embodiment banks for each sample; None: not known here."""

    @classmethod
    def of(
        cls,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"],
        image_id: int,
        embodiments: tuple[int, ...] | None = None,
    ) -> "Layout":
        """The layout of these ids, on their device. Reads them: cheap on the host, a synchronisation anywhere else."""
        device, ids, mask = input_ids.device, input_ids.cpu(), attention_mask.cpu()
        placeholder = ids == image_id
        image = placeholder & mask
        found = cls(
            text=places(mask & ~image),
            image=places(image),
            every=places(mask),
            image_at=placeholder.flatten().nonzero()[:, 0],
            padded=not bool(mask.all()),
            embodiments=embodiments,
        )
        return found if device.type == "cpu" else found.to(device)


def places(mask: Bool[Tensor, "B T"], width: int | None = None) -> Places:
    """Where `mask` is True, read on the host; `width` makes room for so many in each row, whatever there are."""
    counts = mask.sum(1)
    fewest, most = int(counts.min()), int(counts.max())
    if width is None and fewest == mask.shape[1]:
        return EVERYTHING
    # Real tokens first, order kept. One column stays even when nobody has a token: attention will not hear it, but its
    # weights stay in the graph, so that every process of a distributed run has the same gradients.
    columns = max(most, 1) if width is None else width
    index = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :columns]
    full = width is None and fewest == columns
    return Places(
        index=index,
        real=None if full else torch.arange(columns) < counts[:, None],
        heard=None if fewest > 0 else counts > 0,
    )


def read_places(mask: Bool[Tensor, "B T"]) -> Places:
    """`places` of a mask on any device, on that device: what is not known is read back."""
    found = places(mask.cpu())
    return found if mask.device.type == "cpu" else found.to(mask.device)


@dataclass(frozen=True, kw_only=True)
class Pictures(Movable):
    """Pictures as bytes, one after the other: a quarter of their numbers, and one copy takes all of them to a device.

        plain       x = p / 127.5 - 1
        coloured    x = clip(m p + s, -1, 1)        (m | s) of each picture

    Each operation is a kernel that rounds once, in one order: a GPU makes the very numbers that a CPU makes.
    """

    pixels: UInt8[Tensor, " _bytes"]
    """Picture by picture, row by row: red, green, blue."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each."""
    colours: Float[Tensor, "_N 3 4"] | None = None
    """Colour map of each, from 0..255 to -1..1; None: all plain."""

    @classmethod
    def joined(cls, parts: "Sequence[Pictures]") -> "Pictures":
        """All pictures of the parts in order. Raises DataError when some are coloured and others plain."""
        some = [part for part in parts if part]
        coloured = [part.colours for part in some if part.colours is not None]
        if coloured and len(coloured) < len(some):
            hint = "Encode every sample of a batch with its augmentation, or none"
            raise DataError("pictures", got="some with a change of colours", want="all or none", hint=hint)
        return cls(
            pixels=torch.cat([part.pixels for part in some]) if some else torch.empty(0, dtype=torch.uint8),
            sizes=tuple(size for part in some for size in part.sizes),
            colours=torch.cat(coloured) if coloured else None,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Float[Tensor, "3 _h _w"]:
        """One picture in [-1, 1]."""
        return self.numbers([index])[0]

    def __iter__(self) -> Iterator[Float[Tensor, "3 _h _w"]]:
        return (self[i] for i in range(len(self)))

    def only(self, index: int) -> "Pictures":
        """One of them."""
        colours = None if self.colours is None else self.colours[index : index + 1]
        return Pictures(pixels=self._bytes(index).flatten(), sizes=(self.sizes[index],), colours=colours)

    def numbers(self, members: Sequence[int] | None = None) -> Float[Tensor, "_n 3 _h _w"]:
        """Pictures of one size, by default all, in [-1, 1], where the bytes are."""
        chosen = range(len(self)) if members is None else members
        pixels = self._together(chosen).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if self.colours is None:
            # The divisor lies beside the pixels: for one of the host's a GPU multiplies by its rounded reciprocal.
            return pixels.div_(pixels.new_full((), 127.5)).sub_(1)
        maps = torch.stack([self.colours[i] for i in chosen])[..., None, None]
        out, size = torch.empty_like(pixels), 1 if pixels.device.type == "cpu" else len(pixels)  # one stays in a cache
        for x, m, y in zip(pixels.split(size), maps.split(size), out.split(size), strict=True):
            torch.mul(x[:, 0:1], m[:, :, 0], out=y)
            for channel in (1, 2):
                y += x[:, channel : channel + 1] * m[:, :, channel]
            y.add_(m[:, :, 3]).clamp_(-1, 1)
        return out

    def _together(self, chosen: Sequence[int]) -> UInt8[Tensor, "_n _h _w 3"]:
        if list(chosen) == list(range(len(self))):
            return self.pixels.view(len(self), *self.sizes[0], 3)  # as they lie
        return torch.stack([self._bytes(i) for i in chosen])

    def _bytes(self, index: int) -> UInt8[Tensor, "_h _w 3"]:
        height, width = self.sizes[index]
        first = sum(h * w * 3 for h, w in self.sizes[:index])
        return self.pixels[first : first + height * width * 3].view(height, width, 3)


Images = Pictures | tuple[Float[Tensor, "3 _h _w"], ...]
"""Pictures, or what others have scaled to [-1, 1] themselves."""


@dataclass(frozen=True, kw_only=True)
class Past(Movable):
    """What the robot saw at the memory's offsets, oldest first, as the frozen backbone tells it."""

    tokens: Float[Tensor, "B K _P M"]
    """Features of the pictures' tokens."""
    mask: Bool[Tensor, "B K _P"]
    """True on real ones."""
    state: Float[Tensor, "B K _n Ds"]
    """Normalised robot state of each step."""
    valid: Bool[Tensor, "B K"]
    """False before the episode began."""


@dataclass(frozen=True, kw_only=True)
class Moments(Movable):
    """What memory kept of earlier steps, oldest first: what acting passes in place of `Past`."""

    values: Float[Tensor, "B K Q D"]
    valid: Bool[Tensor, "B K"]
    """False before the episode began."""


@dataclass(frozen=True, kw_only=True)
class ModelInputs(Movable):
    """One collated batch, the processor's output and the model's only input."""

    images: Images
    """Every image of the batch in order of appearance in `input_ids`; sizes may differ."""
    input_ids: Int[Tensor, "B T"]
    attention_mask: Bool[Tensor, "B T"]
    """True on real tokens; rows are left-padded."""
    state: Float[Tensor, "B _n Ds"]
    """Normalised robot state, zero-padded to the model's state width; n is the state history, 1 for N1.6."""
    embodiment_id: Int[Tensor, " B"]
    action: Float[Tensor, "B H Da"] | None = None
    """Normalised action chunk, zero-padded; absent at inference."""
    action_mask: Float[Tensor, "B H Da"] | None = None
    """1 on real steps and real dimensions, else 0."""
    labels: Float[Tensor, "B T S"] | None = None
    """Auxiliary token labels, 0 or 1 for each stream; absent at inference."""
    label_mask: Bool[Tensor, "B T"] | None = None
    """True where a label counts: instruction tokens, never images, specials or padding."""
    label_weight: Float[Tensor, " S"] | None = None
    """Weight of a positive label in each stream's BCE (negatives over positives in the training data)."""
    hidden: Float[Tensor, "B T M"] | None = None
    """Hidden states from a feature cache, in place of the images; then `images` is empty."""
    hidden_layer: int = 0
    """Language layers that `hidden` has been through."""
    targets: Float[Tensor, "B G"] | None = None
    """Where, when and how the recorded hand moves, physical units; absent at inference and where nobody asks."""
    past: "Past | Moments | Earlier | None" = None
    """Earlier steps for a model with memory; None: nothing came before."""
    layout: Layout | None = None
    """What `collate` knows of the tokens' places; without it the model reads them back from the device."""


@dataclass(frozen=True, kw_only=True)
class Earlier(Movable):
    """Earlier steps as the model's own input, each of them once: what training passes."""

    steps: ModelInputs
    """R observations without actions."""
    place: Int[Tensor, "B K"]
    """Which of them was seen at each offset, oldest first; 0 where nothing was."""
    valid: Bool[Tensor, "B K"]
    """False before the episode began."""


@dataclass(frozen=True, kw_only=True)
class Recalled(Movable):
    """What a memory says at one step."""

    moments: Float[Tensor, "B Q D"]
    """This step's own, to be kept."""
    present: Float[Tensor, "B Q D"]
    """M_now: this step's moments after they have seen the earlier ones."""
    streams: Float[Tensor, "B T S D"]
    """The remembering streams with what was read."""
    offset: Float[Tensor, "B W"]
    """What is added to the action head's state token."""
    ages: Float[Tensor, "B _K"]
    """Share of the last layer's attention of the present on each step, oldest first; hidden steps 0, the sum 1."""


@dataclass(frozen=True, kw_only=True)
class Features(Movable):
    """What the backbone says about an observation; SVMS returns the same record with other tokens."""

    tokens: Float[Tensor, "B T M"]
    mask: Bool[Tensor, "B T"]
    """True on real tokens."""
    image_mask: Bool[Tensor, "B T"] = None  # type: ignore[assignment]
    """True on image tokens (a subset of `mask`); without one no token is."""
    recalled: Recalled | None = None
    """What memory said, once it was asked; None without one."""
    layout: Layout | None = None
    """Where the tokens stand; None: whoever wants to know reads the masks."""

    def __post_init__(self) -> None:
        if self.image_mask is None:
            object.__setattr__(self, "image_mask", torch.zeros_like(self.mask))


@dataclass(frozen=True, kw_only=True)
class StreamStates(Movable):
    """What SVMS did to each token: the merged tokens, and the evidence for reports and for the monitor."""

    tokens: Float[Tensor, "B T M"]
    """h' = h + merge(...): what the action head reads."""
    streams: Float[Tensor, "B T S D"]
    """Stream states after the Laplacian correction."""
    weights: Float[Tensor, "B T S"]
    """Router weights; each valid token's sum to 1, padding is 0."""
    rho: Float[Tensor, "B T E"]
    """Scale-free disagreement on each edge, in [0, 2]; padding is 0."""
    aux_logits: Float[Tensor, "B T S"]
    """Each stream's own logit for its own label."""
    terms: dict[str, Float[Tensor, ""]]
    """Named losses: sheaf, collapse, balance, and aux when labels were given."""
    recalled: Recalled | None = None
    """What memory said; None without one."""
