"""The command ``pgpull``, also as ``python -m pgpull``."""

from pgpull.starting import starting


def main() -> None:
    """Run the ``pgpull`` command."""
    with starting():
        from pgpull.cli import main as run
    run()


if __name__ == "__main__":
    main()
