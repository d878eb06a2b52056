"""A person's function called as an operator's core: its tensors in order, its options by name or by what names mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opbench.conformance.meaning import matched, meanings, sides
from opbench.conformance.target import TargetName, Value
from opbench.errors import nearest
from opbench.schema import OpbenchError

if TYPE_CHECKING:
    import torch

GROUP_WIDTH = "channels of a group"


def core_of_module(found: Any, tensors: int) -> Callable[..., Any] | None:
    """A module that is called with a core's tensors, as a function of them, of its forward's and constructor's options.

    None for one that is called with fewer tensors: it predicts the others itself.
    """
    made = inspect.isclass(found)
    kinds = inspect.Parameter
    try:
        forward = [one for one in inspect.signature(found.forward).parameters.values() if one.name != "self"]
        options = list(inspect.signature(found).parameters.values()) if made else []
    except (AttributeError, TypeError, ValueError):
        return None
    positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    needed = [one for one in forward if one.default is kinds.empty and one.kind in positional]
    if len(needed) < max(2, tensors):
        return None
    own = {one.name for one in forward}
    options = [one for one in options if one.name not in own and one.kind in (*positional, kinds.KEYWORD_ONLY)]

    def core(*given: Any, **arguments: Any) -> Any:
        constructed = {one.name: arguments.pop(one.name) for one in options if one.name in arguments}
        return (found(**constructed) if made else found)(*given, **arguments)

    core.__name__ = found.__name__ if made else type(found).__name__
    keywords = [one.replace(kind=kinds.KEYWORD_ONLY) for one in (*forward, *options) if one not in needed]
    order = [one.replace(kind=kinds.POSITIONAL_OR_KEYWORD) for one in needed[:tensors]]
    rest = [one.replace(kind=kinds.KEYWORD_ONLY) for one in needed[tensors:]]
    keywords = [one for one in keywords if one.kind is kinds.KEYWORD_ONLY]
    core.__signature__ = inspect.Signature([*order, *rest, *keywords])  # type: ignore[attr-defined]
    return core


@dataclass(frozen=True)
class CoreSignature:
    """What a core is called with: tensors in order, and options with their defaults (`inspect.Parameter.empty`)."""

    name: str
    tensors: tuple[str, ...]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        empty = inspect.Parameter.empty
        options = (name if value is empty else f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({', '.join(self.tensors)}, *, {', '.join(options)})"


@dataclass(frozen=True)
class Adapted:
    """A function that can be called as the core is; `fixed` are the options it has no argument for."""

    function: Callable[..., torch.Tensor]
    fixed: Mapping[str, Value]
    notes: tuple[str, ...] = ()


def core_signature(function: Callable[..., Any]) -> CoreSignature:
    """The signature of a core, read off its public function: tensors first, keyword-only options, implementation."""
    parameters = inspect.signature(function).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    return CoreSignature(
        name=function.__name__,
        tensors=tuple(parameter.name for parameter in parameters if parameter.kind is not keyword),
        options={
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind is keyword and parameter.name != "implementation"
        },
    )


@dataclass(frozen=True)
class _AdaptedCall:
    """How a core's call becomes the function's.

    `options` says as which of the function's arguments an option is passed, `widths` which are the channels of a group.
    """

    function: Callable[..., Any]
    core: CoreSignature
    by_name: bool
    options: Mapping[str, tuple[str, ...]]
    widths: tuple[str, ...]
    given: Mapping[str, Value]
    held: Mapping[str, Value]
    channels_last: bool

    def __call__(self, *tensors: Any, **arguments: Any) -> Any:
        for name, value in self.held.items():
            if arguments.pop(name, value) != value:
                raise NotImplementedError(f"{name}: the target has no such argument")
        own = dict(self.given)
        for name, names in self.options.items():
            if name in arguments:
                value = arguments.pop(name)
                own |= dict.fromkeys(names, value)
                if meanings(name) & {"groups"} and self.widths:
                    x = tensors[0] if tensors else arguments[self.core.tensors[0]]
                    own |= dict.fromkeys(self.widths, x.shape[-1 if self.channels_last else 1] // value)
        if self.by_name or tensors:
            return self.function(*tensors, **arguments, **own)
        in_order = [arguments.pop(name) for name in self.core.tensors]
        return self.function(*in_order, **arguments, **own)


def adapt(
    target: TargetName,
    function: Callable[..., Any],
    core: CoreSignature,
    fixed: Mapping[str, Value],
    given: Mapping[str, Value],
    *,
    channels_last: bool = False,
) -> Adapted:
    """`function`, to be called as `core(**tensors, **options)`.

    Tensors may have other names, and options those that mean the same: `kernel_h` and `kernel_w` are kernel_size. An
    option may be missing if it has a default or a fixed value: it then stays there, and the function is refused
    (NotImplementedError) anything else. `given` are the function's further arguments. Raises OpbenchError for any other
    signature, and says what to add.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in: taken at its word
        return Adapted(function, {})
    kinds = inspect.Parameter
    any_name = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
    variable = (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    own = [name for name, one in parameters.items() if one.kind not in variable]
    strangers = [name for name in given if name not in own]
    if strangers and not any_name:
        raise OpbenchError(f"--arg: {nearest(f'argument of {target.name}', strangers[0], own)}")
    by_position = [
        name
        for name, one in parameters.items()
        if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD) and name not in core.options
    ]
    named = all(name in parameters and parameters[name].kind is not kinds.POSITIONAL_ONLY for name in core.tensors)
    several = any(parameter.kind is kinds.VAR_POSITIONAL for parameter in parameters.values())
    if not (named or any_name or several or len(by_position) >= len(core.tensors)):
        raise _wrong(target, function, core, f"it takes {len(by_position)} of {len(core.tensors)} tensors")
    tensors = core.tensors if named or any_name else tuple(by_position[: len(core.tensors)])
    options = _options(core, [name for name in own if name not in tensors])
    if any_name:
        options |= {name: (name,) for name in core.options if name not in options}
    widths = tuple(name for name in own if GROUP_WIDTH in meanings(name))
    lacking = [name for name in core.options if name not in options]
    # What knows of no groups has one.
    fixed = {**{name: 1 for name in lacking if "groups" in meanings(name)}, **fixed}
    unset = [name for name in lacking if core.options[name] is kinds.empty and name not in fixed]
    if unset:
        add = " ".join(f"--fix {name}=VALUE" for name in unset)
        why = f"it has no argument {', '.join(unset)} (if it is written for one value, add {add})"
        raise _wrong(target, function, core, why)
    known = {*tensors, *widths, *given, *(name for names in options.values() for name in names)}
    unknown = [name for name in own if parameters[name].default is kinds.empty and name not in known]
    if unknown:
        add = " ".join(f"--arg {name}=VALUE" for name in unknown)
        raise _wrong(target, function, core, f"its argument {', '.join(unknown)} has no default: add {add}")
    held = {name: fixed.get(name, core.options[name]) for name in lacking}
    # Arguments that were given hold the options that they mean.
    of_option = {name: option for option, names in options.items() for name in names}
    held_by_given = {of_option[name]: value for name, value in given.items() if name in of_option}
    notes = [f"{name}: the target has no such argument; checked at {name}={value}" for name, value in held.items()]
    renamed = {option: names for option, names in options.items() if names != (option,)}
    notes += [f"{' and '.join(names)}: taken for {option}" for option, names in renamed.items()]
    further = {name: value for name, value in given.items() if name not in of_option}
    by_name = named or not (several or len(by_position) >= len(core.tensors))
    call = _AdaptedCall(function, core, by_name, options, widths, further, held, channels_last)
    return Adapted(call, {**held, **held_by_given}, tuple(notes))


def _options(core: CoreSignature, own: list[str]) -> dict[str, tuple[str, ...]]:
    """By option, the arguments that mean it."""
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in core.options if name in own}
    for option in core.options:
        both = None if option in found else sides(own, option)
        if both is not None:
            found[option] = both
    taken = {name for names in found.values() for name in names}
    missing = [option for option in core.options if option not in found]
    return {**found, **{o: (name,) for o, name in matched([n for n in own if n not in taken], missing).items()}}


def _wrong(target: TargetName, function: Callable[..., Any], core: CoreSignature, why: str) -> OpbenchError:
    got = f"{target.name}{inspect.signature(function)}"
    return OpbenchError(f"target {target.text!r}: wrong signature, {why}: expected {core}, got {got}")
