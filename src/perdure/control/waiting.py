"""Waiting for news or for an instant, whichever comes first; the pause of the control shell's own loops."""

import asyncio
import contextlib

from perdure.ports.clock import Clock


async def for_news(news: asyncio.Event, clock: Clock, until_at: float) -> None:
    """Return when `news` is set, which is cleared again, or at monotonic instant `until_at`."""
    left_s = until_at - clock.now()
    if left_s > 0.0 and not news.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await news.wait()
    elif not news.is_set():
        await asyncio.sleep(0)
    news.clear()
