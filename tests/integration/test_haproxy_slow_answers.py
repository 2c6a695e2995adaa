"""Answers of HAProxy that come slowly, in pieces: who sends something is not silent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perdure.adapters.balancer import runtime
from perdure.model.errors import UnavailableError

PAUSE_S = 0.06
TIMEOUT_S = 0.2


@asynccontextmanager
async def answering(
    path: Path, answer: Callable[[asyncio.StreamWriter], Coroutine[None, None, None]]
) -> AsyncIterator[None]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        try:
            await answer(writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_unix_server(accept, path)
    async with server:
        yield


async def test_an_answer_may_take_long_as_long_as_some_of_it_comes(tmp_path: Path) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        for number in range(8):
            writer.write(b"%d\n" % number)
            await writer.drain()
            await asyncio.sleep(PAUSE_S)

    async with answering(tmp_path / "s", slowly):
        assert (await runtime.ask(tmp_path / "s", "show stat", TIMEOUT_S)).split() == [str(n) for n in range(8)]


async def test_who_stops_in_the_middle_is_silent(tmp_path: Path) -> None:
    async def halfway(writer: asyncio.StreamWriter) -> None:
        writer.write(b"0\n")
        await writer.drain()
        await asyncio.sleep(10 * TIMEOUT_S)

    async with answering(tmp_path / "s", halfway):
        with pytest.raises(UnavailableError, match=r"did not answer for 0\.2 s"):
            await runtime.ask(tmp_path / "s", "show stat", TIMEOUT_S)


async def test_an_answer_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "LONGEST_S", 2.0 * TIMEOUT_S)

    async def endlessly(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"more\n")
            await writer.drain()
            await asyncio.sleep(PAUSE_S / 2)

    async with answering(tmp_path / "s", endlessly):
        with pytest.raises(UnavailableError):
            await runtime.ask(tmp_path / "s", "show stat", TIMEOUT_S)
