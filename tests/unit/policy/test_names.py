"""Names: valid for any user in the world, unique by lease id or uid."""

import re

from hypothesis import given
from hypothesis import strategies as st

from spawner.policy import names
from testing.factories import make_lease

INSTANCE = "a-name-of-twenty-char"[:20]
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DOCKER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


@given(st.text(), st.text())
def test_a_container_name_is_a_dns_label_that_tells_nothing(user: str, server: str) -> None:
    name = names.container_name(INSTANCE, make_lease(user=user, server=server))
    assert DNS_LABEL.fullmatch(name)
    assert name == names.container_name(INSTANCE, make_lease())
    assert "0123456789abcdef" not in name


def test_two_leases_have_two_names() -> None:
    one, other = make_lease(id="0123456789abcdef"), make_lease(id="0123456789abcdee")
    assert names.container_name(INSTANCE, one) != names.container_name(INSTANCE, other)


@given(st.text(), st.integers(1000, 2_000_000))
def test_a_home_volume_is_a_docker_name_that_ends_in_the_uid(user: str, uid: int) -> None:
    name = names.home_volume(INSTANCE, user, uid)
    assert DOCKER_NAME.fullmatch(name)
    assert name.endswith(f"-{uid}")


def test_names_read_like_the_people_they_belong_to() -> None:
    assert names.home_volume("workbench", "Zoë.Müller", 20001) == "workbench-home-zoe-muller-20001"
    assert names.home_volume("workbench", "张伟", 20007) == "workbench-home-x-20007"


def test_two_users_who_look_alike_do_not_meet() -> None:
    one = names.home_volume("workbench", "a.b", 20001)
    other = names.home_volume("workbench", "a-b", 20002)
    assert one != other
