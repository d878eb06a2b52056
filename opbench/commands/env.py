"""`opbench env`."""

from __future__ import annotations

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit


class EnvRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to ask."""


def env(request: EnvRequest) -> Exit:
    """Print the environment that a run here would record."""
    from opbench.engine.environment import environment

    for key, value in msgspec.structs.asdict(environment()).items():
        if isinstance(value, dict):
            for name, text in value.items():
                print(f"{name}: {text}")
        else:
            print(f"{key}: {value}")
    return Exit.FINE


COMMAND = Command("env", EnvRequest, env)
