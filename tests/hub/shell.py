"""The command line ``workbench`` against a running hub."""

import asyncio

import pytest

from spawner import cli
from tests.hub.hub_env import HubEnvironment


class Shell:
    """The command line of one who has a token; what was printed is in ``out`` and ``err``."""

    def __init__(
        self,
        hub_env: HubEnvironment,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("JUPYTERHUB_API_URL", f"{hub_env.url}/hub/api")
        self.log_in(hub_env, "root")

    def log_in(self, hub_env: HubEnvironment, name: str) -> None:
        token = hub_env.user(name, is_admin=name == "root").new_api_token()
        self.monkeypatch.setenv("JUPYTERHUB_API_TOKEN", token)

    async def run(self, *words: str) -> int:
        self.capsys.readouterr()
        code = await asyncio.to_thread(cli.main, words)
        self.out, self.err = self.capsys.readouterr()
        return code
