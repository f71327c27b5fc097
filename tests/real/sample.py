"""The client of the CSM Console Service's API document, in its manner: `websockets`, `aioconsole`, a line at a time.

Run by `test_clients` as a child: `sample.py URL [LINES [FOLLOW]]`, the token and the tenant in the environment.  All
that is added is the close code at the end.
"""

import asyncio
import json
import os
import sys

import websockets
from aioconsole import ainput, aprint


def headers_for(lines: str = "", follow: str = "") -> dict[str, str]:
    headers = {}
    if token := os.environ.get("TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    if tenant := os.environ.get("TENANT"):
        headers["Cray-Tenant-Name"] = tenant
    if lines:
        headers["Cray-Console-Lines"] = lines
        headers["Cray-Console-Follow"] = str(bool(follow))
    return headers


async def receive(websocket: websockets.ClientConnection) -> None:
    while True:
        await aprint(await websocket.recv(), end="")


async def send(websocket: websockets.ClientConnection) -> None:
    while True:
        await websocket.send(await ainput())


async def main(url: str, *options: str) -> None:
    try:
        async with websockets.connect(url, additional_headers=headers_for(*options)) as websocket:
            sender = asyncio.create_task(send(websocket))
            try:
                await receive(websocket)
            finally:
                sender.cancel()
    except websockets.InvalidStatus as refusal:
        await aprint(f"Error: {json.loads(refusal.response.body)['message']}")
    except websockets.ConnectionClosed as closed:
        await aprint(f"Connection closed by the server. ({closed.rcvd.code if closed.rcvd else 1006})")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
