"""aioxmpp with the stream management that it switches on by itself; its messages go to an echo.

`resume`: loses its connection again and again, and resumes each time.
`lose`: says `suspended` when its connection has died and waits for a line on standard input: its session is ended
meanwhile. What the `h` of `<failed/>` covers must count as delivered, and what it does not is sent again.
"""

import asyncio
import os
import sys
from datetime import timedelta

import aioxmpp
import aioxmpp.connector
import aioxmpp.dispatcher
from aioxmpp.stream import StanzaState

PEER = aioxmpp.JID.fromstr(os.environ["XMPP_PEER"])
MESSAGES = int(os.environ["XMPP_MESSAGES"])
DEATHS = int(os.environ["XMPP_DEATHS"])


class Gate(aioxmpp.connector.STARTTLSConnector):
    """Connects only while it is open."""

    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()

    async def connect(self, *args, **kwargs):
        await self.open.wait()
        return await super().connect(*args, **kwargs)


class Chat:
    def __init__(self):
        # Passwords over plain TCP stay on this machine.
        security = aioxmpp.make_security_layer(os.environ["XMPP_PASSWORD"], no_verify=True)
        self.gate = Gate()
        peer = (os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]), self.gate)
        self.client = aioxmpp.Client(
            aioxmpp.JID.fromstr(os.environ["XMPP_JID"]),
            security._replace(tls_required=False),
            override_peer=[peer],
            max_initial_attempts=1,
        )
        self.client.backoff_start = timedelta(milliseconds=50)
        self.tokens = []
        self.got = []
        self.seen = []
        self.failure = None
        self.changed = asyncio.Condition()
        self.client.on_stream_established.connect(lambda: self.note("new"))
        self.client.on_stream_destroyed.connect(lambda *_: self.note("destroyed"))
        self.client.on_stream_suspended.connect(lambda *_: self.note("suspended"))
        self.client.on_stream_resumed.connect(lambda: self.note("back"))
        self.client.on_stopped.connect(lambda: self.note("stopped"))
        self.client.on_failure.connect(self.failed)
        messages = self.client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        messages.register_callback(aioxmpp.MessageType.CHAT, None, self.received)

    def note(self, what):
        self.seen.append(what)
        self.wake()

    def failed(self, error):
        self.failure = error
        self.wake()

    def received(self, message):
        self.got.append(message.body.any())
        self.wake()

    def wake(self, *_):
        async def notify():
            async with self.changed:
                self.changed.notify_all()

        asyncio.ensure_future(notify())

    async def until(self, ready):
        async with self.changed:
            await self.changed.wait_for(lambda: self.failure or ready())
        if self.failure:
            raise self.failure

    def send(self, first, behind):
        for number in range(first, behind):
            message = aioxmpp.Message(to=PEER, type_=aioxmpp.MessageType.CHAT)
            message.body[None] = str(number)
            self.tokens.append(self.client.enqueue(message, on_state_change=self.wake))

    def states(self):
        return [token.state for token in self.tokens]

    def all_in(self, state):
        return all(each == state for each in self.states())

    def appear(self):
        self.client.enqueue(aioxmpp.Presence(type_=aioxmpp.PresenceType.AVAILABLE))
        self.client.enqueue(aioxmpp.Presence(type_=aioxmpp.PresenceType.AVAILABLE, to=PEER))

    async def begin(self):
        self.client.start()
        await self.until(lambda: "new" in self.seen)
        if not (self.client.stream.sm_enabled and self.client.stream.sm_resumable):
            sys.exit("no stream management")
        self.appear()

    def die(self):
        # As a reset would: `abort()` does not tell aioxmpp that anything is wrong.
        self.client.stream._xmlstream.transport._force_close(ConnectionResetError("killed"))

    async def end(self):
        self.client.stop()
        await self.until(lambda: "stopped" in self.seen)

    async def resume(self):
        await self.begin()
        name = self.client.stream.sm_id
        for died in range(DEATHS + 1):
            begin, end = MESSAGES * died // (DEATHS + 1), MESSAGES * (died + 1) // (DEATHS + 1)
            self.send(begin, end)
            if died == DEATHS:
                break
            # Each time after another share of the echoes.
            enough = begin + (end - begin) * died // DEATHS
            await self.until(lambda: StanzaState.ACTIVE not in self.states())
            await self.until(lambda: len(self.got) >= enough)
            self.die()
            await self.until(lambda: self.seen.count("back") == died + 1)
        await self.until(lambda: len(self.got) >= MESSAGES and self.all_in(StanzaState.ACKED))
        # The echo of something else: what came twice would have come before it.
        self.send(MESSAGES, MESSAGES + 1)
        await self.until(lambda: f"echo {MESSAGES}" in self.got)
        same = self.client.stream.sm_id == name
        await self.end()
        if not same or self.seen != ["new"] + ["suspended", "back"] * DEATHS + ["destroyed", "stopped"]:
            sys.exit(f"wrong sessions: {self.seen}, the same stream: {same}")

    async def lose(self):
        await self.begin()
        third = MESSAGES // 3
        self.send(0, third)
        await self.until(lambda: len(self.got) == third and self.all_in(StanzaState.ACKED))
        # Confirmed to us, but aioxmpp does not take it from acks: `<failed/>` has to tell it.
        stream, wanted, told = self.client.stream, stream_count(self.client) + third, []

        def hold_back(h):
            told.append(h)
            self.wake()

        stream.sm_ack = hold_back
        self.send(third, 2 * third)
        await self.until(lambda: told and told[-1] == wanted and len(self.got) == 2 * third)
        self.gate.open.clear()
        self.die()
        await self.until(lambda: "suspended" in self.seen)
        del stream.sm_ack
        self.send(2 * third, MESSAGES)
        expected = [StanzaState.ACKED] * third + [StanzaState.SENT] * third
        if self.states()[: 2 * third] != expected:
            sys.exit(f"wrong states while suspended: {self.states()}")
        print("suspended", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        self.gate.open.set()
        await self.until(lambda: self.seen.count("new") == 2)
        lost = [StanzaState.DISCONNECTED] * (MESSAGES - 2 * third)
        if self.states() != [StanzaState.ACKED] * 2 * third + lost:
            sys.exit(f"wrong states after the loss: {self.states()}")
        self.appear()
        del self.tokens[2 * third :]
        self.send(2 * third, MESSAGES + 1)
        await self.until(lambda: len(self.got) > MESSAGES and self.all_in(StanzaState.ACKED))
        await self.end()
        sessions = ["new", "suspended", "destroyed", "new", "back", "destroyed", "stopped"]
        if self.seen != sessions:
            sys.exit(f"wrong sessions: {self.seen}")


def stream_count(client):
    """Stanzas sent since stream management began."""
    return client.stream.sm_outbound_base + len(client.stream.sm_unacked_list)


async def main():
    chat = Chat()
    plan = sys.argv[1]
    try:
        await asyncio.wait_for(getattr(chat, plan)(), 25)
    except asyncio.TimeoutError:
        sys.exit(f"timeout: {chat.seen}, {len(chat.got)} echoes, tokens {chat.states()}")
    # aioxmpp sends again from the newest to the oldest, so the echo's order is its peer's to check.
    print(" ".join(chat.got))
    print(f"{plan} done")


asyncio.run(main())
