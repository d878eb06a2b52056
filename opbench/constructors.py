"""A module class as people construct it: its arguments with the values to try, and what it then computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opbench.schema import Tensors

if TYPE_CHECKING:
    import torch

Settings = Mapping[str, Any]

# What people call the same argument, whatever the operator. Where the channels that go out are an argument of their
# own, "channels" and its like don't say which are meant.
CHANNELS = ("channels", "c", "dim", "C")
CHANNELS_IN = ("in_channels", "in_channel", "in_ch", "inc", "inp", "in_planes", "in_dim", "c1")
CHANNELS_OUT = (
    "out_channels", "out_channel", "out_ch", "ouc", "outc", "oup", "out_planes", "out_dim", "dim_out", "c2", "O",
)  # fmt: skip
ALIKE = (
    ("kernel_size", "k"),
    ("stride", "s"),
    ("padding", "p"),
    ("dilation", "d"),
    ("groups", "group", "g", "G"),
    ("scale_factor", "scale"),
)


def also_called(settings: Iterable[str]) -> dict[str, str]:
    """The words of these tables for settings that are named by one of them: word -> setting."""
    apart = not set(CHANNELS_OUT).isdisjoint(settings)
    tables = [
        ((*CHANNELS, *CHANNELS_IN), CHANNELS_IN if apart else (*CHANNELS, *CHANNELS_IN)),
        (CHANNELS_OUT, CHANNELS_OUT),
        *((words, words) for words in ALIKE),
    ]
    return {
        word: name
        for named, words in tables
        for name in settings
        if name in named
        for word in words
        if word not in settings
    }


def padded_same(settings: Settings, name: str = "pad") -> Settings:
    """The settings with the padding, under its name, that keeps the size of an image at stride 1."""
    return {**settings, name: settings["dilation"] * (settings["kernel_size"] - 1) // 2}


@dataclass(frozen=True, kw_only=True)
class Constructor:
    """The arguments of a constructor, `settings`, with the values to draw, plainest first.

    `channels` and `groups` name two of them, `inputs` a third, that of the channels that come in where these may be
    others. `aliases` are what others call a setting; the words that `also_called` knows are added. `derived` completes
    drawn settings, `definition(settings, tensors, training)` gives the output, channels first unless `channels_last`.
    `supplied` are arguments that other classes of the name can't do without, with the value to give where nobody does.
    A setting with one value to draw, and an argument that is no setting, has no other in the definition. Height and
    width of its images are multiples of `blocks`.
    """

    settings: Mapping[str, tuple[Any, ...]]
    definition: Callable[[Settings, Tensors, bool], torch.Tensor]
    channels: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    groups: str | None = None
    inputs: str | None = None
    channels_last: bool = False
    derived: Callable[[Settings], Settings] = lambda settings: settings
    blocks: int = 1
    supplied: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {word: name for word, name in self.aliases.items() if word not in self.settings}
        # Those declared come first: of several words for a setting the first that a class has is taken.
        words = known | {word: name for word, name in also_called(self.settings).items() if word not in known}
        object.__setattr__(self, "aliases", words)
