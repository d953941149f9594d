"""Docker traits: names every public attribute of DockerSpawner that the workbench keeps or refuses to run.

WorkbenchSpawner inherits from DockerSpawner for its traits and templates. Controller and broker start and stop
containers, so a verb of DockerSpawner is an error. A test walks the installed class.
"""

from __future__ import annotations

from typing import Any, NoReturn

VERBS = (
    "create_object",
    "docker",
    "get_command",
    "get_ip_and_port",
    "get_network_ip",
    "get_object",
    "move_certs",
    "post_start_exec",
    "pull_image",
    "remove_object",
    "start_object",
    "stop_object",
)
"""Methods that would reach Docker, or decide how a container is made."""

PROPERTIES = (
    "client",
    "container_id",
    "container_name",
    "executor",
    "internal_hostname",
    "tls_client",
)
"""Properties that belong to DockerSpawner's own client, thread or container."""

INHERITED = (
    "check_allowed",
    "check_image_whitelist",
    "escaped_name",
    "mount_binds",
    "object_id",
    "object_id_key",
    "object_name",
    "object_type",
    "template_namespace",
    "volume_binds",
    "volume_mount_points",
)
"""Attributes that only compute with traits."""

OVERRIDDEN = ("get_env", "get_state", "load_state", "poll", "start", "stop", "will_resume")
"""Attributes that WorkbenchSpawner defines."""


class VerbRefused(RuntimeError):  # noqa: N818 - it refuses
    """A verb of DockerSpawner was called."""


def without_verbs(spawner: type) -> type:
    """Make every verb and every property of DockerSpawner's own client raise in the class ``spawner``."""
    for name in VERBS:
        setattr(spawner, name, _refuse(name))
    for name in PROPERTIES:
        setattr(spawner, name, property(_refuse(name)))
    return spawner


def _refuse(name: str) -> Any:  # noqa: ANN401
    def refused(_spawner: object, *_args: object, **_options: object) -> NoReturn:
        raise VerbRefused(
            f"DockerSpawner.{name} never runs: the controller and the broker start and stop containers."
        )

    refused.__name__ = name
    return refused
