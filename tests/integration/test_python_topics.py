# SPDX-License-Identifier: LGPL-2.1-or-later
"""Topics by the Python module: publishing, and `async for` over what is published."""

import asyncio
import errno
import os

import pytest

from messaging import eventually
from python_module import LONG, raises, xenmsg


def is_notice(item, kind, **values):
    return isinstance(item, xenmsg.Notice) and item.kind is xenmsg.NoticeKind[kind] and all(
        getattr(item, name) == value for name, value in values.items())


async def test_what_is_published_comes_to_async_for(here, there):
    async with xenmsg.open(here.socket) as conn, xenmsg.open(there.socket) as other, conn.topic("news") as topic:
        came = []
        async with other.subscribe("1:news") as subscription:
            assert is_notice(await subscription.next(LONG), "SUBSCRIBED", messages=0, unknown=False)
            for number in range(3):
                await topic.publish(b"%d" % number)
            await asyncio.gather(*[await topic.post(b"%d" % number) for number in range(3, 100)])
            async for item in subscription:
                assert isinstance(item, xenmsg.Message)
                assert (item.endpoint, item.sender_domid, item.sender_pid) == ("1:news", 1, os.getpid())
                came.append(int(bytes(item)))
                if len(came) == 100:
                    break
            assert came == list(range(100))
            topic.close()
            assert is_notice(await subscription.next(LONG), "WAITING", unknown=False)
        await raises(errno.ENOTCONN, topic.publish(b"closed"))


async def test_what_is_kept_and_what_is_no_topic_is_told(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("plain"), conn.topic("state", retain=True) as topic:
        await topic.publish(b"first")
        await topic.publish(b"last")
        subscription = await conn.subscribe("self:state")
        assert is_notice(await subscription.next(LONG), "SUBSCRIBED", messages=2)
        assert is_notice(await subscription.next(LONG), "KEPT")
        assert bytes(await subscription.next(LONG)) == b"last"
        subscription.close()
        await raises(errno.EPROTOTYPE, conn.subscribe("self:plain").next())
        await raises(errno.EEXIST, conn.topic("plain").publish(b"x"))
        await raises(errno.EPROTOTYPE, conn.send("self:state", b"forged"))


def test_the_same_without_asyncio(here, there):
    with xenmsg.blocking.open(here.socket) as conn, xenmsg.blocking.open(there.socket) as other, \
            conn.topic("news", retain=True) as topic:
        topic.publish(b"kept")
        with other.subscribe("1:news") as subscription:
            assert is_notice(subscription.next(LONG), "SUBSCRIBED", messages=1)
            assert is_notice(subscription.next(LONG), "KEPT")
            topic.publish(b"more")
            came = []
            for item in subscription:
                came.append(bytes(item))
                if len(came) == 2:
                    break
            assert came == [b"kept", b"more"]
            topic.close()
            assert is_notice(subscription.next(LONG), "WAITING")
            with pytest.raises(xenmsg.TimedOut):
                subscription.next(0.01)


@pytest.mark.parametrize("keep", ["newest", "oldest"])
async def test_a_subscriber_chooses_what_it_loses(one, keep):
    with xenmsg.blocking.open(one.socket) as conn, conn.topic("news") as topic, \
            conn.subscribe("self:news", queue=2, keep=keep) as slow, conn.subscribe("self:news") as quick:
        assert is_notice(slow.next(LONG), "SUBSCRIBED") and is_notice(quick.next(LONG), "SUBSCRIBED")
        for number in range(50):
            topic.publish(b"%d" % number)
            assert bytes(quick.next(LONG)) == b"%d" % number
        came, missed = [], 0
        while missed + len(came) < 50:
            item = slow.next(LONG)
            if isinstance(item, xenmsg.Notice):
                assert is_notice(item, "MISSED", unknown=False)
                missed += item.messages
            else:
                came.append(int(bytes(item)))
        assert missed >= 46 and (came[-2:] == [48, 49] if keep == "newest" else came == [0, 1])
        with pytest.raises(ValueError):
            conn.subscribe("self:other", queue=65536)
    async with xenmsg.open(one.socket) as conn, conn.topic("news") as topic:
        async with conn.subscribe("self:news", queue=1, keep=keep) as subscription:
            assert is_notice(await subscription.next(LONG), "SUBSCRIBED")
            await topic.publish(b"hello")
            assert bytes(await subscription.next(LONG)) == b"hello"


async def test_the_last_message_of_each_key_is_kept(one):
    async with xenmsg.open(one.socket) as conn, conn.topic("state", keys=2) as topic:
        await raises(errno.EINVAL, topic.publish(b"x", key=""))
        await (await topic.post(b"1", key="a"))
        for key, data in ("b", b"2"), ("a", b"3"), ("c", b"4"), ("d", b"5"), ("d", b""):
            await topic.publish(data, key=key)
        async with conn.subscribe("self:state") as subscription:
            assert is_notice(await subscription.next(LONG), "SUBSCRIBED", messages=6)
            assert is_notice(await subscription.next(LONG), "KEPT")
            message = await subscription.next(LONG)
            assert (message.key, bytes(message)) == ("c", b"4")
            await topic.publish(b"6")
            message = await subscription.next(LONG)
            assert (message.key, bytes(message)) == ("", b"6")
    await raises(errno.EINVAL, conn.topic("state", keys=4096).publish(b"x"))
    with xenmsg.blocking.open(one.socket) as conn, conn.topic("state", keys=2) as topic, conn.subscribe("self:state") as subscription:
        topic.publish(b"1", key="a")
        item = subscription.next(LONG)
        while isinstance(item, xenmsg.Notice):
            item = subscription.next(LONG)
        assert (item.key, bytes(item)) == ("a", b"1")


async def test_a_topic_knows_how_many_listen(here, there):
    async with xenmsg.open(here.socket) as conn, xenmsg.open(there.socket) as other, conn.topic("news") as topic:
        assert topic.listeners == 0
        async with other.subscribe("1:news") as subscription:
            assert await asyncio.wait_for(topic.wait_for_listeners(), LONG) == 1
            assert is_notice(await subscription.next(LONG), "SUBSCRIBED")
        assert await asyncio.wait_for(topic.wait_for_listeners(False), LONG) == 0
    with xenmsg.blocking.open(here.socket) as conn, xenmsg.blocking.open(there.socket) as other, \
            conn.topic("news") as topic, other.subscribe("1:news"):
        eventually(lambda: topic.listeners == 1, "it is told")


async def test_with_the_next_daemon_nobody_listens_at_first(one):
    async with xenmsg.open(one.socket, reconnect=True) as conn, conn.topic("news") as topic:
        async with xenmsg.open(one.socket) as other, other.subscribe("1:news"):
            assert await asyncio.wait_for(topic.wait_for_listeners(), LONG) == 1
            one.stop()
            one.start()
            assert await asyncio.wait_for(topic.wait_for_listeners(False), LONG) == 0
