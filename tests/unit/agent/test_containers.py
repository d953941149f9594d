"""Which container a PID belongs to, by the kernel's cgroup file."""

import os
from pathlib import Path

import pytest

from spawner.agent.containers import get_container_id

ID = "439c8ab724e3ea911c1d30b681ee1b0337bcf7f6765271b209f21cde05e283dc"
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"0::/docker/{ID}\n", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"0::/../docker-{ID}.scope\n", ID),
        (f"0::/../{ID}\n", ID),
        (f"0::/system.slice/docker-{ID}.scope/init.scope\n", ID),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n", ID),
        (
            f"12:devices:/docker/{ID}\n4:memory:/docker/{ID}\n0::/system.slice/containerd.service\n",
            ID,
        ),
        (f"4:memory:/docker/{OTHER}/docker/{ID}\n", ID),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/\n", None),
        ("", None),
        (f"0::/docker/{ID[:-1]}\n", None),
        (f"0::/docker/{ID}0\n", None),
        (f"0::/docker/{ID.upper()}\n", None),
    ],
)
def test_the_cgroup_names_the_container(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "cgroup").write_text(text)
    assert get_container_id(42, tmp_path) == expected


def test_a_process_that_is_gone_is_in_no_container(tmp_path: Path) -> None:
    assert get_container_id(42, tmp_path) is None


def test_this_kernel_has_the_file() -> None:
    assert Path(f"/proc/{os.getpid()}/cgroup").read_text().count(":") >= 2
    get_container_id(os.getpid())
