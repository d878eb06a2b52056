"""A module class as people construct it: its arguments with the values to try, and what it then computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opbench.schema import Tensors

if TYPE_CHECKING:
    import torch

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Constructor:
    """The arguments of a constructor, `settings`, with the values to draw, plainest first.

    `channels` and `groups` name two of them, `inputs` a third, that of the channels that come in where these may be
    others; `aliases` are what others call a setting. `derived` completes drawn settings,
    `definition(settings, tensors, training)` gives the output, channels first unless `channels_last`.
    `supplied` are arguments that other classes of the name can't do without, with the value to give where nobody does.
    A setting with one value to draw, and an argument that is no setting, has no other in the definition. Height and
    width of its images are multiples of `blocks`.
    """

    settings: Mapping[str, tuple[Any, ...]]
    aliases: Mapping[str, str]
    definition: Callable[[Settings, Tensors, bool], torch.Tensor]
    channels: str
    groups: str | None = None
    inputs: str | None = None
    channels_last: bool = False
    derived: Callable[[Settings], Settings] = lambda settings: settings
    blocks: int = 1
    supplied: Mapping[str, Any] = field(default_factory=dict)
