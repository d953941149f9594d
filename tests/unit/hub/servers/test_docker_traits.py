"""Docker traits: the installed DockerSpawner has no trait and no public attribute without a decision."""

import inspect

import pytest
from dockerspawner import DockerSpawner
from jupyterhub.spawner import Spawner
from traitlets import TraitType

from spawner.hub import site_policy
from spawner.hub.servers.docker_traits import (
    INHERITED,
    OVERRIDDEN,
    PROPERTIES,
    VERBS,
    VerbRefused,
)
from spawner.hub.servers.spawner import WorkbenchSpawner

BARE = WorkbenchSpawner.__new__(WorkbenchSpawner)


def test_each_trait_has_one_decision() -> None:
    traits = {
        name
        for name in DockerSpawner.class_trait_names(config=True)
        if name in vars(DockerSpawner) or name not in Spawner.class_trait_names(config=True)
    }
    refused, honoured = set(site_policy.REFUSED["Spawner"]), set(site_policy.HONOURED)
    assert traits - refused - honoured == set()
    assert refused & honoured == set()
    assert honoured <= traits


def test_each_public_attribute_has_one_decision() -> None:
    decided = [*VERBS, *PROPERTIES, *INHERITED, *OVERRIDDEN]
    attributes = {
        name
        for name, value in vars(DockerSpawner).items()
        if not name.startswith("_")
        and not (isinstance(value, TraitType) and value.metadata.get("config"))
    }
    assert attributes == set(decided)
    assert len(decided) == len(set(decided))


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_never_runs(name: str) -> None:
    with pytest.raises(VerbRefused, match=rf"DockerSpawner\.{name} never runs"):
        getattr(BARE, name)("anything", image="anything")


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_of_its_client_raises(name: str) -> None:
    with pytest.raises(VerbRefused, match=rf"DockerSpawner\.{name} never runs"):
        getattr(BARE, name)


def test_the_workbenchs_own_verbs_are_not_dockerspawners() -> None:
    for name in OVERRIDDEN:
        defined = inspect.getattr_static(WorkbenchSpawner, name)
        assert defined is not inspect.getattr_static(DockerSpawner, name), name
