"""Logs in with slixmpp, sends numbered messages to an echo, waits for each, logs out.

On plain TCP, through the Unix socket XMPP_SOCKET, or with its default security if XMPP_CA is the file of the authority to
trust: by STARTTLS alone, or by direct TLS alone, as XMPP_TLS says.
"""

import asyncio
import os
import sys

import slixmpp


class Chat(slixmpp.ClientXMPP):
    def __init__(self):
        tls = os.environ.get("XMPP_TLS")
        # Passwords over plain TCP stay on this machine.
        mechanisms = {} if tls else {"unencrypted_plain": True, "unencrypted_scram": True}
        super().__init__(
            os.environ["XMPP_JID"],
            os.environ["XMPP_PASSWORD"],
            plugin_config={"feature_mechanisms": mechanisms},
        )
        self.enable_starttls = tls == "starttls"
        self.enable_direct_tls = tls == "direct"
        self.enable_plaintext = not tls
        self.ca_certs = os.environ.get("XMPP_CA")
        self.peer = os.environ["XMPP_PEER"]
        self.wanted = [f"echo {n}" for n in range(int(os.environ["XMPP_MESSAGES"]))]
        self.got = []
        self.trouble = None
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.received)
        for event in ("failed_auth", "stream_error", "connection_failed"):
            self.add_event_handler(event, self.failed)

    async def start(self, _event):
        await self.get_roster()
        self.send_presence()
        self.send_presence(pto=self.peer)
        for number in range(len(self.wanted)):
            self.send_message(mto=self.peer, mbody=str(number), mtype="chat")

    def received(self, message):
        self.got.append(message["body"])
        if len(self.got) == len(self.wanted):
            self.disconnect()

    def failed(self, event):
        self.trouble = repr(event)
        self.abort()


async def main():
    chat = Chat()
    path = os.environ.get("XMPP_SOCKET")
    if path:
        # slixmpp knows addresses only; what it asks of its event loop is easily turned.
        loop = asyncio.get_running_loop()
        loop.create_connection = lambda factory, *_, **__: loop.create_unix_connection(factory, path)
    chat.connect(os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"]))
    await asyncio.wait_for(chat.disconnected, 50)
    if chat.trouble:
        sys.exit(f"failed: {chat.trouble}")
    if chat.got != chat.wanted:
        sys.exit(f"wrong echoes: {chat.got}")
    print(f"{len(chat.got)} echoes in order")


asyncio.run(main())
