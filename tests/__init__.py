"""The tests of pgpull."""
