"""Every test of this folder has a database of its own, with one thread of the server in it."""

import pytest

from pgpull.seeding import Prepare, Seed

pytest_plugins = ["pgpull.fixtures"]

THREAD = "689000e5-09c7-ec06-59f4-e819abdd3343"


@pytest.fixture(scope="session")
def pgpull_prepare() -> Prepare:
    """Seed the template, once in a session; tables come with their keys and indexes."""

    def prepare(seed: Seed) -> None:
        seed("askwealth.message", equals={"thread_id": THREAD})

    return prepare
