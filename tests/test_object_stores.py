"""An archive in an object store is the same as one in a folder, against a server of that kind on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgpull import ArchiveError, Manifest, UsageError, export, load, storing
from pgpull.places import place_of
from tests.support import Pair, free_port

moto = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")
s3fs = pytest.importorskip("s3fs", reason="pip install s3fs")

SECRET = "planted-secret-of-the-object-store"
TABLE = "askwealth.message"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Give the address of a server that speaks S3."""
    server = moto.ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an object store with an empty bucket, and let the environment name it."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.mkdir("bucket")
    yield files
    files.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def full(pair: Pair) -> Pair:
    pair.add_messages("source", 200, step="12 hours")
    return pair


@pytest.mark.parametrize(("format", "by"), [("csv", None), ("parquet", "month")])
def test_an_archive_goes_to_an_object_store_and_is_loaded_from_there(
    store: Any, full: Pair, format: str, by: str | None
) -> None:
    url = "s3://bucket/team/messages"
    exported = export(TABLE, source=full.source_url, to=url, format=format, by=by)  # type: ignore[arg-type]
    stored = {path.removeprefix("bucket/team/messages/") for path in store.find("bucket")}
    assert stored == {"manifest.json", *(file.path for file in exported.manifest.files)}
    assert Manifest.from_json(store.cat_file("bucket/team/messages/manifest.json")) == exported.manifest
    assert load(url, target=full.target_url).tally.inserted == 200
    assert full.same(TABLE)


def test_no_credentials_are_in_what_is_stored(store: Any, full: Pair) -> None:
    export("askwealth.*", source=full.source_url, to="s3://bucket/a", compress="gzip")
    assert not [path for path in store.find("bucket") if SECRET.encode() in store.cat_file(path)]


def test_an_archive_in_a_store_is_replaced_only_if_that_is_said(store: Any, full: Pair) -> None:
    export("askwealth.*", source=full.source_url, to="s3://bucket/a")
    with pytest.raises(ArchiveError, match="there is an archive already"):
        export(TABLE, source=full.source_url, to="s3://bucket/a")
    export(TABLE, source=full.source_url, to="s3://bucket/a", overwrite=True)
    assert len(store.find("bucket/a")) == 2
    store.pipe_file("bucket/other/file.txt", b"mine")
    with pytest.raises(ArchiveError, match="is no archive"):
        export(TABLE, source=full.source_url, to="s3://bucket/other", overwrite=True)


def test_a_failed_export_leaves_nothing_in_the_store_and_a_killed_one_is_replaced(
    store: Any, full: Pair
) -> None:
    def fail() -> None:
        with storing.writing(place_of("s3://bucket/a")) as archive:
            archive.file("t/1.csv").write_bytes(b"1\n")
            archive.keep("t/1.csv")
            assert sorted(store.find("bucket")) == ["bucket/a/partial.txt", "bucket/a/t/1.csv"]
            raise RuntimeError("lights out")

    with pytest.raises(RuntimeError, match="lights out"):
        fail()
    assert store.find("bucket") == []
    store.pipe_file("bucket/a/partial.txt", b"")
    store.pipe_file("bucket/a/t/0001.csv", b"1\n")
    with pytest.raises(ArchiveError, match="no archive"):
        load("s3://bucket/a", target=full.target_url)
    exported = export(TABLE, source=full.source_url, to="s3://bucket/a")
    assert len(store.find("bucket/a")) == 1 + len(exported.manifest.files)


@pytest.mark.usefixtures("store")
def test_what_a_store_refuses_is_said_without_its_credentials(full: Pair) -> None:
    with pytest.raises(ArchiveError) as caught:
        export(TABLE, source=full.source_url, to="s3://nowhere/a")
    assert "s3://nowhere/a" in caught.value.message
    assert SECRET not in json.dumps([caught.value.message, caught.value.hint])


def test_a_url_that_nobody_reads_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nobody knows"):
        place_of("nosuch://a/b")
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UsageError, match="not installed") as caught:
        place_of("gs://a/b")
    assert "pgpull[gcs]" in caught.value.hint


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    place = place_of(f"memory://user:{SECRET}@host/{tmp_path.name}")
    assert SECRET not in place.name
