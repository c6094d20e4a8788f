"""`python -m tests.stream.run_agent domicile.toml`: an agent in a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from domicile.catalog import configuration
from domicile.replication.agent import Agent


async def main() -> None:
    agent = Agent(configuration.load(sys.argv[1]), beat_s=0.05)
    await agent.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
