"""Configuration: the traits that each setting gives JupyterHub."""

from pathlib import Path
from typing import Any

import pytest
from jupyterhub.auth import DummyAuthenticator
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from spawner.catalog import load_catalog
from spawner.hub import site_policy
from spawner.hub.approval import ApprovedSignUp
from spawner.hub.configure import (
    build_workbench,
    configure,
    configure_site,
    start_background_tasks,
)
from spawner.hub.servers.spawner import WorkbenchSpawner
from spawner.hub.workbench import Workbench
from spawner.ledger import Ledger
from spawner.model import OptionsError, SettingsError
from spawner.settings import Settings
from testing.paths import ROOT
from testing.ports import free_port


def built(tmp_path: Path, **changes: Any) -> Workbench:
    settings = Settings(ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite", **changes)
    Ledger.open(settings.ledger_url, first_uid=settings.first_uid).close()  # only a hub makes one
    return build_workbench(settings, ROOT / "images/catalog.toml")


def configured(tmp_path: Path, **changes: Any) -> Config:
    config, workbench = Config(), built(tmp_path, **changes)
    configure(config, workbench.settings, workbench, ROOT / "docs")
    return config


def test_a_hub_restart_cuts_no_user_off(tmp_path: Path) -> None:
    c = configured(tmp_path)
    assert c.JupyterHub.cleanup_servers is False
    assert c.ConfigurableHTTPProxy.should_start is False
    assert c.ConfigurableHTTPProxy.api_url == "http://proxy-api:8001"
    assert c.JupyterHub.hub_connect_url == "http://hub:8081"
    assert c.JupyterHub.db_url == "sqlite:////data/jupyterhub.sqlite"
    assert c.JupyterHub.cookie_secret_file.startswith("/data/")


def test_only_the_chosen_releases_are_offered(tmp_path: Path) -> None:
    plain = built(tmp_path)
    assert plain.parse({}).release == "v2.7"
    with pytest.raises(OptionsError, match=r"choose one of v2\.7"):
        plain.parse({"release": "v2.15"})
    newest = built(tmp_path, releases=("v2.15",))
    assert newest.parse({}).release == "v2.15"
    assert list(newest.offered.releases) == ["v2.15"]
    with pytest.raises(SettingsError, match="WORKBENCH_RELEASES names 'v9'"):
        built(tmp_path, releases=("v9",))


def test_a_wait_in_line_is_bounded_in_days_and_a_start_as_configured(tmp_path: Path) -> None:
    c = configured(tmp_path, start_timeout_seconds=300)
    assert c.WorkbenchSpawner.answer_timeout == 300
    assert c.Spawner.start_timeout == 7 * 24 * 3600
    assert c.JupyterHub.concurrent_spawn_limit == 0
    assert c.JupyterHub.spawner_class is WorkbenchSpawner


def test_the_service_that_takes_up_the_line_may_start_servers_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "a secret of this installation")
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "known to the proxy too")
    first, second = configured(tmp_path), configured(tmp_path)
    (role,), (service,) = first.JupyterHub.load_roles, first.JupyterHub.services
    assert role["scopes"] == ["start:servers"]
    assert role["services"] == [service["name"]]
    assert "admin" not in service
    assert "a secret" not in service["api_token"]
    assert second.JupyterHub.services == [service]


def test_sign_up_needs_an_approval(tmp_path: Path) -> None:
    c = configured(tmp_path, admin="root.of.all")
    assert issubclass(c.JupyterHub.authenticator_class, ApprovedSignUp)
    assert c.ApprovedSignUp.open_signup is False
    assert c.Authenticator.admin_users == {"root.of.all"}
    assert c.ApprovedSignUp.max_sign_ups == 100


def test_another_authenticator_lets_no_one_in_by_itself(tmp_path: Path) -> None:
    c = configured(tmp_path, authenticator="dummy")
    assert issubclass(c.JupyterHub.authenticator_class, DummyAuthenticator)
    assert "allow_all" not in c.Authenticator
    assert c.JupyterHub.template_vars["has_sign_up"] is False


def test_an_authenticator_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"AUTHENTICATOR=no\.such\.Thing cannot be used"):
        configured(tmp_path, authenticator="no.such.Thing")


@pytest.mark.parametrize(("most", "are_allowed"), [(4, True), (0, False)])
def test_named_servers_are_as_many_as_configured(
    tmp_path: Path, most: int, are_allowed: bool
) -> None:
    c = configured(tmp_path, named_servers=most)
    assert c.JupyterHub.allow_named_servers is are_allowed
    assert c.JupyterHub.named_server_limit_per_user == most


def test_nothing_of_the_hubs_environment_reaches_a_server(tmp_path: Path) -> None:
    assert configured(tmp_path).Spawner.env_keep == []


def test_only_a_hub_starts_the_controller(tmp_path: Path) -> None:
    workbench = built(tmp_path)
    start_background_tasks(workbench)
    assert workbench.background_tasks == set()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file with its catalog and docs, as the hub's image has them."""
    for source in ("jupyterhub_config.py", "images/catalog.toml"):
        (tmp_path / Path(source).name).write_text((ROOT / source).read_text())
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.setenv("WORKBENCH_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.sqlite")
    built(tmp_path).ledger.close()
    return tmp_path


def test_the_file_reads_the_environment_and_configures(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_ADMIN", "ada")
    config = PyFileConfigLoader("jupyterhub_config.py", str(installed)).load_config()
    assert config.Authenticator.admin_users == {"ada"}
    assert config.WorkbenchSpawner.get_workbench().offered == load_catalog(
        ROOT / "images/catalog.toml"
    ).choose(())


def test_a_wrong_setting_ends_the_hub_with_one_sentence(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_MAX_GPU", "1")
    with pytest.raises(SystemExit, match="did you mean WORKBENCH_MAX_GPUS"):
        PyFileConfigLoader("jupyterhub_config.py", str(installed)).load_config()


def test_a_ledger_that_does_not_answer_ends_the_hub_with_one_sentence(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql+psycopg://workbench:not-to-be-shown@127.0.0.1:{free_port()}/workbench"
    monkeypatch.setenv("WORKBENCH_LEDGER_URL", url)
    with pytest.raises(SystemExit, match=r"^The ledger cannot be reached: [^\n]+\.$") as ended:
        PyFileConfigLoader("jupyterhub_config.py", str(installed)).load_config()
    assert "not-to-be-shown" not in str(ended.value)


def test_each_trait_that_the_workbench_sets_has_a_decision_for_site_files(tmp_path: Path) -> None:
    c = configured(tmp_path)
    free = {*site_policy.MERGED, *site_policy.OPEN}
    undecided = {
        (section, trait)
        for section, values in c.items()
        for trait in values
        if site_policy.explain_refusal(section, trait) is None and (section, trait) not in free
    }
    assert undecided == set()


def with_site(tmp_path: Path, text: str, **changes: Any) -> Config:
    config, workbench = Config(), built(tmp_path, **changes)
    configure(config, workbench.settings, workbench, ROOT / "docs")
    (tmp_path / "site.py").write_text(text)
    configure_site(config, workbench.settings, workbench, tmp_path)
    return config


def test_a_site_file_may_choose_the_authenticator_where_the_setting_says_so(tmp_path: Path) -> None:
    text = "c.JupyterHub.authenticator_class = 'dummy'\nc.DummyAuthenticator.password = 'x'"
    c = with_site(tmp_path, text, authenticator="site")
    assert issubclass(c.JupyterHub.authenticator_class, DummyAuthenticator)
    assert "get_handlers" in vars(c.JupyterHub.authenticator_class)  # the workbench's routes
    with pytest.raises(SettingsError, match="set WORKBENCH_AUTHENTICATOR=site as well"):
        with_site(tmp_path, text)
    with pytest.raises(
        SettingsError, match=r"needs c\.JupyterHub\.authenticator_class in site\.py"
    ):
        with_site(tmp_path, "", authenticator="site")


def test_the_file_reads_the_site_files_next_to_it(installed: Path) -> None:
    (installed / "config").mkdir()
    (installed / "config/site.py").write_text("c.JupyterHub.active_server_limit = 7")
    config = PyFileConfigLoader("jupyterhub_config.py", str(installed)).load_config()
    assert config.JupyterHub.active_server_limit == 7
    (installed / "config/site.py").write_text("c.JupyterHub.port = 7")
    with pytest.raises(SystemExit, match=r"site\.py cannot set c\.JupyterHub\.port"):
        PyFileConfigLoader("jupyterhub_config.py", str(installed)).load_config()
