"""A gateway in this process, for what happens on its loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from flowers import EXAMPLE, row

from mlnb import ModelRegistry
from mlnb.monitoring.alerts import AlertRule
from mlnb.serving.gateway import Gateway
from mlnb.serving.plan import Manner, Plan, Spec, Watching
from mlnb.serving.predicting import Served
from mlnb.serving.service import Answer, Query


def plan(registry: ModelRegistry, reference: str, *, rules: Sequence[AlertRule] = (), **given: Any) -> Plan:
    """Return how to serve a version in this process."""
    version = registry.version(reference)
    spec = Spec(version=version, registry=registry.url, reference=str(version), manner=Manner())
    return Plan(live=spec, watching=Watching(rules=tuple(rules), **given))


@asynccontextmanager
async def running() -> AsyncIterator[Gateway]:
    """Have a gateway; at the end none of its tasks is left."""
    gateway = Gateway()
    try:
        yield gateway
    finally:
        await gateway.close(within=1)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def deployed(
    gateway: Gateway, registry: ModelRegistry, model: Any, *, name: str = "flowers", example: Any = EXAMPLE,
    rules: Sequence[AlertRule] = (), **given: Any,
) -> Served:  # fmt: skip
    """Register a model, and serve it as it is: not a copy from the registry."""
    version = await asyncio.to_thread(registry.register, model, name, example=example)
    await gateway.deploy(plan(registry, str(version), rules=rules, **given), {version.number: model})
    return gateway.served[name]


async def ask(gateway: Gateway, *sizes: float, name: str = "flowers", **values: Any) -> Answer:
    rows = [row(size, **values) for size in sizes]
    return await gateway.answer(name, Query(rows))


def run(test: Callable[[Gateway], Awaitable[None]]) -> None:
    """Run a coroutine function with a gateway."""

    async def whole() -> None:
        async with running() as gateway:
            await test(gateway)

    asyncio.run(whole())
