"""ultralytics, kept from the network and from the user's own settings; a machine that is never busy."""

import functools
import importlib.util
import socket

import pytest
from waiting import Waiting

from opbench.measure.disturbance import DisturbanceGuard
from opbench.models import side_by_side


@pytest.fixture(scope="session", autouse=True)
def quiet():
    """What a swap costs is told whatever else this machine does."""
    with pytest.MonkeyPatch.context() as patch:
        guard = functools.partial(DisturbanceGuard, kernel=Waiting(), sleep=lambda seconds: None)
        patch.setattr(side_by_side, "DisturbanceGuard", guard)
        yield


@pytest.fixture(scope="session")
def ultralytics_settings(tmp_path_factory):
    """It writes its settings on import: into a folder of the tests. It resolves hosts: nobody may."""
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed: pip install 'opbench[ultralytics]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        patch.setenv("YOLO_AUTOINSTALL", "false")
        yield


@pytest.fixture
def ultralytics(ultralytics_settings, monkeypatch):
    """Any attempt to reach the network fails the test."""

    def refused(*arguments, **options):
        raise AssertionError(f"a test asked the network for {arguments}")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    from opbench.models.ultralytics_package import import_ultralytics

    return import_ultralytics()


@pytest.fixture
def tasks(ultralytics, monkeypatch):
    """`ultralytics.nn.tasks` with its parser as installed; what a test registers there is gone after it."""
    from opbench.models.ultralytics_package import import_ultralytics

    module = import_ultralytics("ultralytics.nn.tasks")
    monkeypatch.setattr(module, "parse_model", getattr(module.parse_model, "original", module.parse_model))
    monkeypatch.setattr(module, "CARAFE", None, raising=False)
    monkeypatch.delattr(module, "CARAFE")
    return module
