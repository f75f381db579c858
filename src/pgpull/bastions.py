"""A machine on the way to a database, as ssh knows it: how ssh is called, and what its words mean."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Final

from pgpull.errors import SettingsError

_WITH_PORT: Final = re.compile(r"((?:[^@\s]+@)?(?:\[[^\]\s]+\]|[^:\s]+)):(\d{1,5})")

# ssh takes the first value that it finds: these hold whatever stands in the user's files and options.
_OURS: Final = (
    "ExitOnForwardFailure=yes",
    "ClearAllForwardings=no",
    # nothing of this machine's is handed on
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    # it would go on in the background without us
    "ForkAfterAuthentication=no",
    # the reasons that it gives are among what it says at this level
    "LogLevel=INFO",
)

# These hold unless the user's options say otherwise.
_USUAL: Final = (
    # a forwarding that another ssh does for us stays when we go
    "ControlMaster=no",
    "ControlPath=none",
    "ConnectTimeout=15",
    # a line that is dead is noticed within half a minute
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
)


@dataclass(frozen=True, slots=True)
class Bastion:
    """What ssh is told of the machine that leads to the database."""

    destination: str
    """``user@host``, a ``Host`` of ``~/.ssh/config``, or ``ssh://user@host:port``."""
    port: str = ""
    options: tuple[str, ...] = field(default=(), repr=False)
    """The user's own words to ssh, such as ``-F FILE`` or ``-i FILE``."""

    def __str__(self) -> str:
        return self.destination + (f":{self.port}" if self.port else "")

    @classmethod
    def parse(cls, text: str, options: str = "") -> Bastion:
        """Read what stands in the settings.

        Args:
            text: ``user@bastion``, ``user@bastion:port``, or whatever else ssh takes as a destination.
            options: further words for ssh, as a shell would take them.

        Raises:
            SettingsError: either makes no sense.
        """
        destination, port = text.strip(), ""
        match = _WITH_PORT.fullmatch(destination)
        if match and "://" not in destination:
            destination, port = match[1].replace("[", "").replace("]", ""), match[2]
        if not destination or destination.startswith("-") or re.search(r"\s", destination):
            raise SettingsError(
                f"SERVER_SSH is not a machine that ssh could go to: {text!r}",
                "write SERVER_SSH=user@bastion, user@bastion:port, or a Host of ~/.ssh/config",
            )
        if port and not 0 < int(port) < 65_536:
            raise SettingsError(f"SERVER_SSH names no port: {text!r}", "a port is a number from 1 to 65535")
        try:
            return cls(destination, port, tuple(shlex.split(options)))
        except ValueError as error:
            raise SettingsError(
                f"SERVER_SSH_OPTIONS cannot be read: {str(error).lower()}", "write -F FILE, or -i 'FILE'"
            ) from None

    def command(self, ssh: str, forwards: tuple[str, ...], *, asks: bool) -> list[str]:
        """Return how ssh is called.

        Args:
            ssh: the program.
            forwards: what it listens on here, and where each leads, as ``-L`` has them.
            asks: whether there is somebody whom it can ask for a passphrase, or about a new host key.
        """
        settings = (*_OURS, *(() if asks else ("BatchMode=yes",)))
        ours = [word for setting in settings for word in ("-o", setting)]
        usual = [word for setting in _USUAL for word in ("-o", setting)]
        port = ["-p", self.port] if self.port else []
        listening = [word for forward in forwards for word in ("-L", forward)]
        return [ssh, "-N", "-T", *ours, *port, *self.options, *usual, *listening, "--", self.destination]


# --- what ssh says -----------------------------------------------------------------------------------------

_HINTS: Final = (
    (
        "IDENTIFICATION HAS CHANGED|differs from the key",
        "somebody may stand in between: ask who runs the bastion whether its key is new; only if it is, forget"
        " the old one: ssh-keygen -R HOST",
    ),
    (
        "host key verification failed|host key is known",
        "log in there once by hand, and compare the key's fingerprint with the one its owner gives you:"
        " ssh {destination}",
    ),
    (
        "administratively prohibited|forwarding is disabled|port forwarding failed",
        "the bastion forwards nothing there: ask for AllowTcpForwarding yes, and a PermitOpen, for this user",
    ),
    (
        "permission denied|too many authentication failures|no supported authentication",
        "does ssh {destination} let you in without a question? load the key (ssh-add), or name it:"
        " SERVER_SSH_OPTIONS='-i FILE'",
    ),
    (
        "open failed: .*(name or service|could not resolve|unknown host|nodename|temporary failure)",
        "the host in SERVER_DB_URL is looked up by the bastion: write its name as it is known there",
    ),
    (
        "open failed",
        "is Postgres running there, and are the host and port of SERVER_DB_URL those that the bastion sees?",
    ),
    ("could not resolve hostname", "check the host in SERVER_SSH; does it need a VPN?"),
    (
        "connection refused|timed out|unreachable|not responding|connection closed|connection reset",
        "is the bastion up, and is its port in SERVER_SSH? is a firewall or a VPN in between?",
    ),
    (
        "bad configuration option|bad owner|config file|command-line|usage:",
        "check SERVER_SSH_OPTIONS and ~/.ssh/config",
    ),
)

_NOISE: Final = re.compile(
    r"@{5}|^warning: permanently added|^killed by signal|^connection to .* closed|^\*\*"
    r"|^it is also possible|^someone could be|^the fingerprint|^[A-Z0-9]+:\S+$|^please contact|^add correct"
    r"|^it is possible that someone|remove with:|^ssh-keygen|^pseudo-terminal|^transferred:|^\S+ debug",
    re.IGNORECASE,
)

_MOST_WORDS: Final = 300
"""Characters of ssh's words in one error."""


def reason(said: str) -> str:
    """Return what ssh gives as its reason, in one line.

    Args:
        said: all that it said.
    """
    lines = [line.strip().strip("@").strip() for line in said.splitlines() if line.strip().strip("@").strip()]
    lines = [line.rstrip(".") for line in lines if not _NOISE.search(line)]
    text = "; ".join(dict.fromkeys(lines[-4:]))
    return text[-_MOST_WORDS:] or "it gave no reason"


def hint_for(said: str, bastion: Bastion) -> str:
    """Return what can be done about what ssh said."""
    by_hand = f"-p {bastion.port} {bastion.destination}" if bastion.port else bastion.destination
    for pattern, hint in _HINTS:
        if re.search(pattern, said, re.IGNORECASE):
            return hint.format(destination=by_hand)
    return f"does it work by hand? ssh {by_hand}"


def forwarding_failed(said: str) -> str:
    """Return why ssh could not go on from the bastion to the database, if that is what it says."""
    found = re.findall(r"open failed: (.*)", said)
    return str(found[-1]).strip() if found else ""


def port_is_taken(said: str) -> bool:
    """Tell whether ssh could not listen where it was to."""
    return bool(
        re.search(r"cannot listen to|address already in use|could not request local forwarding", said, re.I)
    )
