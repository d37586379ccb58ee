"""Fixtures of the tests that track against the stub server; a test module asks for them with `pytest_plugins`."""

import os

import pytest
from tracking_server import ROOT
from wandb_session import end_session
from wandb_stub import WandbStub


@pytest.fixture
def own_home(tmp_path_factory, monkeypatch):
    """No key, no settings and no caches of the developer; a fresh W&B for each test; short patience."""
    end_session()
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(home))
    for name, value in {"ERROR_REPORTING": "false", "FINISH_TIMEOUT": "3", "INIT_TIMEOUT": "3"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    end_session()


@pytest.fixture
def stub(own_home, monkeypatch):
    """A server that must understand everything it is asked."""
    with WandbStub() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
    assert server.unknown == []
