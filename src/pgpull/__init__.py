"""Bring rows of a production Postgres into your own Postgres: exact, fast, safe, re-runnable.

>>> from pgpull import pull
>>> report = pull("askwealth.message", source=SERVER_DB_URL, target=LOCAL_DB_URL)  # doctest: +SKIP
>>> report.tally.inserted  # doctest: +SKIP
"""

import lazy_loader

# What is offered stands in __init__.pyi, and is read when it is used: `import pgpull` itself takes 10 ms.
_read, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading the installed files' records takes as long as a small pull
        from importlib.metadata import version

        return version("pgpull")
    return _read(name)
