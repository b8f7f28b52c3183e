"""Logs in with slixmpp and stream management, loses its connection again and again, and resumes each time.

Between the losses it sends numbered messages to an echo. Each connection dies after another share of the echoes.
"""

import asyncio
import os
import sys

import slixmpp


class Resuming(slixmpp.ClientXMPP):
    def __init__(self):
        # Passwords over plain TCP stay on this machine.
        mechanisms = {"unencrypted_plain": True, "unencrypted_scram": True}
        super().__init__(
            os.environ["XMPP_JID"],
            os.environ["XMPP_PASSWORD"],
            plugin_config={"feature_mechanisms": mechanisms},
        )
        self.enable_starttls = False
        self.enable_direct_tls = False
        self.enable_plaintext = True
        self.register_plugin("xep_0198")
        self.peer = os.environ["XMPP_PEER"]
        self.messages = int(os.environ["XMPP_MESSAGES"])
        self.deaths = int(os.environ["XMPP_DEATHS"])
        self.got = []
        self.seen = []
        self.ids = set()
        self.sent = 0
        self.fatal = None
        self.sending = False
        self.dying = False
        self.over = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("session_resumed", self.resumed)
        self.add_event_handler("message", self.received)
        self.add_event_handler("disconnected", self.lost)
        self.add_event_handler("sm_failed", self.failed)
        for event in ("failed_auth", "stream_error", "connection_failed"):
            self.add_event_handler(event, self.failed)

    def dial(self):
        self.connect(os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]))

    async def start(self, _event):
        self.seen.append("new")
        await self.get_roster()
        self.send_presence()
        self.send_presence(pto=self.peer)
        await self.burst()

    async def resumed(self, _event):
        self.seen.append("resumed")
        await self.burst()

    async def burst(self):
        """Sends one share of the messages; the connection dies after some of its echoes."""
        died = self.seen.count("resumed")
        begin, self.sent = self.sent, self.messages * (died + 1) // (self.deaths + 1)
        self.dying, self.sending, self.fatal = False, True, None
        if died < self.deaths:
            self.fatal = begin + (self.sent - begin) * died // self.deaths
        for number in range(begin, self.sent):
            self.send_message(mto=self.peer, mbody=str(number), mtype="chat")
        # What slixmpp has not yet counted when its connection dies, it forgets.
        await self.waiting_queue.join()
        self.ids.add((self["xep_0198"].sm_id, str(self.boundjid)))
        self.sending = False
        self.die_if_due()

    def die_if_due(self):
        due = self.fatal is not None and len(self.got) >= self.fatal
        if due and not self.sending and not self.dying:
            self.dying = True
            self.abort()

    def received(self, message):
        self.got.append(message["body"])
        if len(self.got) == self.messages and self.fatal is None:
            # The echo of something else: what came twice would have come before it.
            self.send_message(mto=self.peer, mbody="end", mtype="chat")
        elif message["body"] == "echo end":
            self.disconnect()
        else:
            self.die_if_due()

    def lost(self, reason):
        if self.dying:
            self.dial()
        elif not self.over.done():
            self.over.set_result(None)

    def failed(self, event):
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"failed: {event!r}"))


async def main():
    client = Resuming()
    client.dial()
    await asyncio.wait_for(client.over, 25)
    wanted = [f"echo {n}" for n in [*range(client.messages), "end"]]
    if client.got != wanted:
        sys.exit(f"wrong echoes: {client.got}")
    if client.seen != ["new"] + ["resumed"] * client.deaths:
        sys.exit(f"wrong sessions: {client.seen}")
    if len(client.ids) != 1 or None in next(iter(client.ids)):
        sys.exit(f"more than one stream: {client.ids}")
    print(f"{client.messages} echoes in order, {client.deaths} times resumed")


asyncio.run(main())
