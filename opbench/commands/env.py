"""`opbench env`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import AsJson, Option
from opbench.plural import counted
from opbench.schema import OpbenchError

# Format history of `opbench env --json`:
#   1  first version: what a run document has under `environment`
ENVIRONMENT_VERSION = 1


class EnvRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How it is printed, or whether to empty the cache of compiled kernels instead."""

    clear_cache: Annotated[bool, Option("Empty the folder of compiled CPU kernels instead.")] = False
    as_json: AsJson = False


def env(request: EnvRequest) -> Exit:
    """Print the environment that a run here would record."""
    if request.clear_cache:
        return _clear_cache()
    from opbench.engine.environment import environment
    from opbench.report.json_answer import answer
    from opbench.report.lines import say, say_json

    found = environment()
    if request.as_json:
        say_json(answer("environment", ENVIRONMENT_VERSION, msgspec.to_builtins(found)))
        return Exit.FINE
    for key, value in msgspec.structs.asdict(found).items():
        if isinstance(value, dict):
            for name, text in value.items():
                say(f"{name}: {text}")
        elif not isinstance(value, msgspec.Struct):  # the share of the cores, which `details` has in words
            say(f"{key}: {value}")
    return Exit.FINE


def _clear_cache() -> Exit:
    from opbench.kernels.cpu.jit import cache_folder, clear_cache
    from opbench.report.lines import say

    try:
        count = clear_cache()
    except OSError as error:
        raise OpbenchError(f"{cache_folder()}: can't be emptied: {error.strerror or error}") from None
    say(f"{counted(count, 'compiled kernel')} removed from {cache_folder()}")
    return Exit.FINE


COMMAND = Command("env", EnvRequest, env)
