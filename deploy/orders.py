"""A program for the workers of this folder: replace it with yours."""

import weft

payments = weft.Queue("payments", concurrency=4, rate=(10, 1.0))


@weft.step
async def reserve(item: str) -> str:
    return f"{item}: reserved"


@weft.step(queue=payments, retries=weft.Retry(attempts=5), timeout=20.0)
async def charge(customer: str, items: int) -> str:
    return f"{customer} paid for {items}"


@weft.workflow
async def order(customer: str, items: list[str]) -> list[str]:
    reserved = [await reserve(item) for item in items]
    return [*reserved, await charge(customer, len(items))]
