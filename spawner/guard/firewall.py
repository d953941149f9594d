"""Firewall: compares one address family's filter table with the wanted rules and restores what differs.

A restore is one transaction of ``iptables-restore --noflush``; it touches the workbench's own chains, its jumps to
them, and Docker's jump to ``DOCKER-USER`` where it is missing. Other rules stay as they are.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from spawner.model import Unknown
from spawner.policy.network import USER_CHAIN

FORWARD = "FORWARD"
_TO_USER_CHAIN = f"-j {USER_CHAIN}"
# the jumps of every workbench of this host: their order among each other is free
_ANY_JUMP = re.compile(r"-i wb[ca]?-[0-9a-f]{8} -j WB-[0-9A-F]{8}-(?:FORWARD|INPUT)")
_COMMAND_SECONDS = 30.0

Run = Callable[[Sequence[str], str], str]


def run_command(words: Sequence[str], text: str) -> str:
    """Return what a command prints when it is given ``text``; raises Unknown with its error."""
    try:
        done = subprocess.run(  # noqa: S603 - the words are this module's own
            words, input=text, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(f"{words[0]} cannot be run: {error}.") from error
    if done.returncode != 0:
        sentence = " ".join(done.stderr.split()).rstrip(".")
        raise Unknown(f"{words[0]} failed with exit code {done.returncode}: {sentence}.")
    return done.stdout


@dataclass(frozen=True)
class Wanted:
    """The wanted part of a filter table: own chains with their rules, and jumps to them by the chain they are in."""

    chains: Sequence[str]
    rules: Sequence[str]
    jumps: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Firewall:
    """One address family; ``tool`` is ``iptables-nft`` or ``ip6tables-nft``."""

    tool: str
    run: Run = run_command

    def ensure(self, wanted: Wanted) -> bool:
        """Make the table as it is wanted; return whether anything had to be changed. Raises Unknown."""
        changes = build_changes(self._list(), wanted)
        if not changes:
            return False
        self._restore(changes)
        if build_changes(self._list(), wanted):
            raise Unknown(f"{self.tool} does not keep the rules of the users' network.")
        return True

    def remove(self, wanted: Wanted) -> None:
        """Remove jumps and chains, as far as they are there; raises Unknown."""
        lines = self._list()
        removals = list(_remove_jumps(lines, wanted))
        present = [chain for chain in wanted.chains if f"-N {chain}" in lines]
        removals += [f":{chain} - [0:0]" for chain in present]
        removals += [f"-X {chain}" for chain in present]
        if removals:
            self._restore(removals)

    def _list(self) -> list[str]:
        return self.run((self.tool, "-w", "5", "-S"), "").splitlines()

    def _restore(self, changes: Sequence[str]) -> None:
        text = "\n".join(("*filter", *changes, "COMMIT", ""))
        self.run((f"{self.tool}-restore", "-w", "5", "--noflush"), text)


def build_changes(lines: Sequence[str], wanted: Wanted) -> list[str]:
    """Return the lines of a restore that make the table ``lines`` as it is wanted; none when it is."""
    has_rules = _own_rules(lines, wanted.chains) == list(wanted.rules)
    has_jumps = all(
        set(jumps) <= set(_leading_jumps(lines, chain)) for chain, jumps in wanted.jumps.items()
    )
    needs_user_chain = USER_CHAIN in wanted.jumps
    has_user_chain = not needs_user_chain or _rules_of(lines, FORWARD)[:1] == [_TO_USER_CHAIN]
    if has_rules and has_jumps and has_user_chain:
        return []
    changes = []
    if needs_user_chain and f"-N {USER_CHAIN}" not in lines:
        changes += [f":{USER_CHAIN} - [0:0]", f"-A {USER_CHAIN} -j RETURN"]
    changes += [f":{chain} - [0:0]" for chain in wanted.chains]
    if not has_user_chain:
        changes += [
            f"-D {FORWARD} {rule}" for rule in _rules_of(lines, FORWARD) if rule == _TO_USER_CHAIN
        ]
        changes.append(f"-I {FORWARD} 1 {_TO_USER_CHAIN}")
    changes += _remove_jumps(lines, wanted)
    changes += [
        f"-I {chain} 1 {jump}" for chain, jumps in wanted.jumps.items() for jump in reversed(jumps)
    ]
    changes += wanted.rules
    return changes


def _rules_of(lines: Sequence[str], chain: str) -> list[str]:
    prefix = f"-A {chain} "
    return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]


def _own_rules(lines: Sequence[str], chains: Sequence[str]) -> list[str] | None:
    """Return the rules of the chains, chain by chain; None when one of them is not there."""
    if any(f"-N {chain}" not in lines for chain in chains):
        return None
    return [f"-A {chain} {rule}" for chain in chains for rule in _rules_of(lines, chain)]


def _leading_jumps(lines: Sequence[str], chain: str) -> Iterator[str]:
    for rule in _rules_of(lines, chain):
        if not _ANY_JUMP.fullmatch(rule):
            return
        yield rule


def _remove_jumps(lines: Sequence[str], wanted: Wanted) -> Iterator[str]:
    for chain in wanted.jumps:
        for rule in _rules_of(lines, chain):
            if any(rule.endswith(f" -j {own}") for own in wanted.chains):
                yield f"-D {chain} {rule}"
