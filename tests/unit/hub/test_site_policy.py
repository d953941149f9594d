"""Site policy: each refused trait exists, so that a renamed one is noticed."""

import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.spawner import Spawner

from spawner.hub import site_policy
from spawner.hub.approval import ApprovedSignUp
from spawner.hub.servers.spawner import WorkbenchSpawner

CLASSES = {
    "JupyterHub": JupyterHub,
    "ConfigurableHTTPProxy": ConfigurableHTTPProxy,
    "Spawner": WorkbenchSpawner,
    "ApprovedSignUp": ApprovedSignUp,
}


@pytest.mark.parametrize("section", site_policy.REFUSED)
def test_each_refused_trait_exists(section: str) -> None:
    known = {*CLASSES[section].class_trait_names(config=True)}
    if section == "Spawner":
        known |= {*Spawner.class_trait_names(config=True)}
    assert set(site_policy.REFUSED[section]) <= known


def test_a_trait_of_the_spawner_is_refused_under_each_name_of_its_class() -> None:
    for section in ("Spawner", "DockerSpawner", "WorkbenchSpawner"):
        assert (
            site_policy.explain_refusal(section, "start_timeout") == "use WORKBENCH_START_TIMEOUT"
        )
    assert site_policy.explain_refusal("JupyterHub", "log_level") is None
