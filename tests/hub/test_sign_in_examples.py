"""The examples of docs/sign-in.md: each sets traits that its class has, with values that the class takes."""

import re
from importlib.metadata import entry_points

import pytest
from jupyterhub.auth import Authenticator
from oauthenticator.oauth2 import OAuthenticator
from traitlets.config import Config

from testing.docs import page

NAMES = ("github", "gitlab", "google", "azuread", "ldap")
POINTS = entry_points(group="jupyterhub.authenticators")
CLASSES: dict[str, type[Authenticator]] = {
    found.__name__: found for found in (OAuthenticator, *(POINTS[name].load() for name in NAMES))
}
EXAMPLES = re.findall(r"```python\n(.+?)```", page("docs/sign-in.md").text, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_configures_its_class(example: str) -> None:
    c = Config()
    exec(example, {"c": c})  # noqa: S102 - our own page
    (name,) = c
    made = CLASSES[name](config=c)
    for trait, value in c[name].items():
        assert made.has_trait(trait), f"{name} has no {trait}"
        expected = value if trait != "tls_strategy" else made.tls_strategy
        assert getattr(made, trait) == expected


def test_every_named_entry_point_is_installed() -> None:
    named = set(re.findall(r"`WORKBENCH_AUTHENTICATOR=([a-z-]+)`", page("docs/sign-in.md").text))
    assert named >= set(NAMES)
    assert named - {"native"} <= set(POINTS.names)
