"""Site spawner: DockerSpawner's traits as site files set them, evaluated into the extras of a new lease.

DockerSpawner gives the traits and templates that admins know; its verbs, its thread and its ``poll`` never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockerspawner import DockerSpawner
from jupyterhub.traitlets import Callable
from traitlets import Dict, List, Union, validate

from spawner.catalog import Release
from spawner.hub.refusal import SpawnRefused
from spawner.hub.servers.docker_traits import without_verbs
from spawner.hub.servers.extras import evaluate_extras
from spawner.hub.site_policy import explain_refusal
from spawner.model import ExtrasError, Reason, Refused
from spawner.policy.bounds import explain_excess
from spawner.policy.extras import HUB_VARIABLES, parse_extras


@without_verbs
class SiteSpawner(DockerSpawner):  # type: ignore[misc]
    """The traits of one server that the site files may set, and the variables that the hub chooses."""

    get_workbench = Callable(
        config=True,
        help="Returns the Workbench of this hub; a function, because traitlets copies other values.",
    )
    # DockerSpawner or JupyterHub take only values here
    volumes = Union([Callable(), Dict()], config=True, help="Folders or volumes, by source.")
    read_only_volumes = Union([Callable(), Dict()], config=True, help="The same, read-only.")
    mounts = Union([Callable(), List()], config=True, help="Mounts as dicts.")
    environment = Union([Callable(), Dict()], config=True, help="Variables of the server.")
    args = Union([Callable(), List()], config=True, help="Arguments of jupyterhub-singleuser.")

    @validate("mem_limit")
    def _mem_limit_str(self, proposal: Any) -> Any:  # noqa: ANN401
        """Keep a function: DockerSpawner would call it before the admission."""
        return proposal.value

    @validate("cpu_limit")
    def _cast_cpu_limit(self, proposal: Any) -> Any:  # noqa: ANN401
        """Keep a function: DockerSpawner would call it before the admission."""
        return proposal.value

    def _apply_overrides(self, spawner_override: dict[str, Any]) -> None:
        """Apply the traits of ``group_overrides``; those of the policy are refused."""
        for trait, value in spawner_override.items():
            why = explain_refusal("Spawner", trait, value)
            if why is not None:
                raise self._refuse_extras(f"group_overrides cannot set {trait}: {why}")
        super()._apply_overrides(spawner_override)

    def get_env(self) -> dict[str, str]:
        """Return the variables that the hub chooses; those of the site files are in the lease."""
        environment = self.environment
        self.set_trait("environment", {})
        try:
            variables = super().get_env()
        finally:
            self.set_trait("environment", environment)
        if zone := self.get_workbench().settings.time_zone:
            variables["TZ"] = zone
        return {name: value for name, value in variables.items() if name in HUB_VARIABLES}

    def select_allowed(self, releases: Mapping[str, Release]) -> dict[str, Release]:
        """Return those of ``releases`` that ``allowed_images`` lets the user start."""
        allowed = self._get_allowed_images()
        if not allowed or allowed == "*":
            return dict(releases)
        return {name: release for name, release in releases.items() if name in allowed.values()}

    async def evaluate_extras(self, release: str) -> str:
        """Return the extras of a new lease; raises SpawnRefused where the site files and the bounds disagree."""
        workbench = self.get_workbench()
        if release not in self.select_allowed(workbench.offered.releases):
            offered = ", ".join(sorted({*self._get_allowed_images().values()}))
            sentence = f"You may not use the release {release}: choose one of {offered}."
            raise SpawnRefused(Refused(Reason.RELEASE_NOT_ALLOWED, sentence))
        self.image = workbench.offered.releases[release].image
        try:
            extras = await evaluate_extras(self)
        except ExtrasError as error:
            raise self._refuse_extras(str(error)) from error
        excess = explain_excess(parse_extras(extras), workbench.bounds, workbench.settings.limits)
        if excess is not None:
            raise self._refuse_extras(excess)
        return extras

    def _refuse_extras(self, why: str) -> SpawnRefused:
        self.log.error("user=%s server=%r state=refused reason=%s", self.user.name, self.name, why)
        sentence = f"The site files of this workbench do not fit: {why}. Tell an admin."
        return SpawnRefused(Refused(Reason.START_FAILED, sentence))
