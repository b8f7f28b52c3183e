// Logs in with @xmpp/client by TCP, or direct TLS if XMPP_TLS says so, sends numbered messages to an echo, waits for each, logs out.

import { webcrypto } from "node:crypto";
import { pathToFileURL } from "node:url";

// Node 18, which Debian 12 has, does not set it.
globalThis.crypto ??= webcrypto;

const { client, xml } = await import(pathToFileURL(process.env.XMPP_CLIENT).href);
const { XMPP_TLS, XMPP_HOST, XMPP_PORT, XMPP_JID, XMPP_PASSWORD, XMPP_PEER, XMPP_MESSAGES } = process.env;
const [username, domain] = XMPP_JID.split("@");
const count = Number(XMPP_MESSAGES);
const echoes = [];

// It takes STARTTLS where it is offered. Over plain TCP it chooses SCRAM and refuses PLAIN.
const xmpp = client({
  service: `${XMPP_TLS === "direct" ? "xmpps" : "xmpp"}://${XMPP_HOST}:${XMPP_PORT}`,
  domain,
  username,
  password: XMPP_PASSWORD,
});

function fail(why) {
  console.error(why);
  process.exit(1);
}

setTimeout(() => fail(`timeout after ${echoes.length} echoes`), 50_000).unref();
xmpp.reconnect.stop();
xmpp.on("error", fail);

xmpp.on("online", async () => {
  await xmpp.iqCaller.get(xml("query", "jabber:iq:roster"));
  await xmpp.send(xml("presence"));
  await xmpp.send(xml("presence", { to: XMPP_PEER }));
  for (let number = 0; number < count; number += 1) {
    await xmpp.send(xml("message", { to: XMPP_PEER, type: "chat" }, xml("body", {}, String(number))));
  }
});

xmpp.on("stanza", async (stanza) => {
  const body = stanza.is("message") && stanza.getChildText("body");
  if (!body) return;
  echoes.push(body);
  if (echoes.length < count) return;
  await xmpp.stop();
  const wrong = echoes.findIndex((echo, number) => echo !== `echo ${number}`);
  if (wrong >= 0) fail(`wrong echo at ${wrong}: ${echoes}`);
  console.log(`${count} echoes in order`);
});

await xmpp.start();
