"""The table on disk."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from strategyrollout.router.disk import Disk
from tests.router.router import until


@contextlib.asynccontextmanager
async def syncing(disk: Disk) -> AsyncIterator[None]:
    task = asyncio.create_task(disk.keep_synced())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_is_written_is_there_for_the_next_process_at_once(tmp_path: Path) -> None:
    Disk(tmp_path / "units.map").write([("epoch", "7"), ("0-4999", "admit slot0")])
    assert Disk(tmp_path / "units.map").read() == [("epoch", "7"), ("0-4999", "admit slot0")]
    assert [path.name for path in tmp_path.iterdir()] == ["units.map"]


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert Disk(tmp_path / "units.map").read() == []


async def test_a_disk_that_fails_is_told_of_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router")
    disk = Disk(tmp_path / "units.map")
    disk.write([("epoch", "7")])
    (tmp_path / "units.map").rename(tmp_path / "away")
    async with syncing(disk):
        await until(lambda: "a crash of the machine may lose it" in caplog.text, "the failure")
        (tmp_path / "away").rename(tmp_path / "units.map")
        await until(lambda: "the table is on disk" in caplog.text, "the next try")
