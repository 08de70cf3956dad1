"""A replica's socket: who has the key is served, and nobody else is so much as answered (rows 35 and 36)."""

from __future__ import annotations

import asyncio
import pickle
import random

import pytest
import zmq
import zmq.asyncio

from engine.fleet.link import Link, LinkLost, LinkRules
from engine.fleet.messages import KeyPair, Member
from tests.engine.fleet.fleets import Fleet, Resumable, new_keys, read, request, text_of

pytestmark = pytest.mark.anyio

RULES = LinkRules(open_s=0.4, silence_s=0.6, beat_s=0.05)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def refused(member: Member, keys: KeyPair) -> None:
    context = zmq.asyncio.Context()
    with pytest.raises(LinkLost, match=r"does not (answer|let us in)"):
        await Link.open(member, keys, context, RULES)
    context.destroy(linger=0)


async def test_who_has_another_key_gets_no_answer() -> None:
    fleet = Fleet()
    member = await fleet.add("a", Resumable())
    async with fleet.client() as client:
        await refused(member, new_keys())
        assert await read(client, request("r")) == text_of(request("r"))


async def test_a_host_that_is_not_the_one_listed_is_not_believed() -> None:
    """Who took its address does not have its secret key."""
    fleet = Fleet()
    member = await fleet.add("a", Resumable())
    async with fleet.client():
        await refused(Member("a", member.address, new_keys().public), fleet.keys)


@pytest.mark.parametrize("seed", range(3))
async def test_36_bytes_and_pickles_from_strangers_change_nothing(seed: int) -> None:
    fleet = Fleet()
    member = await fleet.add("a", Resumable())
    noise = random.Random(seed)
    async with fleet.client() as client:
        host, port = member.address.removeprefix("tcp://").split(":")
        for content in (noise.randbytes(2000), pickle.dumps({"a": [1]}), b"GET / HTTP/1.1\r\n\r\n", b""):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(content)
            await writer.drain()
            writer.close()
        assert await read(client, request("r")) == text_of(request("r"))
        assert fleet.hosts["a"].is_serving


async def test_36_noise_from_one_who_has_the_key_is_dropped() -> None:
    fleet = Fleet()
    member = await fleet.add("a", Resumable())
    async with fleet.client() as client:
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.DEALER)
        socket.curve_serverkey = member.public_key.encode()
        socket.curve_publickey, socket.curve_secretkey = fleet.keys.public.encode(), fleet.keys.secret.encode()
        socket.connect(member.address)
        for content in (b"", b"\xc1" * 100, pickle.dumps([1]), b"\x81\xa4type\xa5Hello"):
            await socket.send(content)
        await socket.send_multipart([b"one", b"two", b"three"])
        await asyncio.sleep(0.05)
        assert await read(client, request("r")) == text_of(request("r"))
        context.destroy(linger=0)
