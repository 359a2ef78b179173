"""Orders of many accounts, to see who serves them."""

from __future__ import annotations

import aiohttp

ACCOUNTS = [f"ACC-{number:04}" for number in range(60)]


async def order(session: aiohttp.ClientSession, address: str, account: str) -> str:
    """The version that answered, or why none did: a status, or the name of an error."""
    try:
        url, headers = f"http://{address}:8080/orders", {"X-Account-Id": account}
        async with session.post(url, data="{}", headers=headers) as answer:
            text = await answer.text()
            return text if answer.status == 200 else str(answer.status)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return type(error).__name__
