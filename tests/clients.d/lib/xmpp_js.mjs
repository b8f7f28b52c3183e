// Drives @xmpp/client for the driver xmpp-js, which has checked and set the environment.

import { createRequire } from "node:module";
import { webcrypto } from "node:crypto";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// Node 18, which Debian 12 has, does not set it.
globalThis.crypto ??= webcrypto;

const LOGIN_MS = 120_000;
const { XB_NODE, XB_JID, XB_PASSWORD, XB_HOST = "127.0.0.1", XB_PORT, XB_TLS, XB_PEER } = process.env;
const installed = createRequire(`${XB_NODE}/`);
const { client, xml } = await import(pathToFileURL(installed.resolve("@xmpp/client")).href);
const { version } = installed("@xmpp/client/package.json");
const [username, domain] = XB_JID.split("@");

const say = (...words) => console.log(words.join(" ").replaceAll("\n", " "));
say("version @xmpp/client", version);

// What a program writes:
const scheme = XB_TLS === "direct" ? "xmpps" : "xmpp";
const xmpp = client({
  service: `${scheme}://${XB_HOST}:${XB_PORT}`,
  domain,
  username,
  password: XB_PASSWORD,
});
// So far a program.
let online = false;
let begun = false;
let stopping = false;

function failed(why) {
  say("lost", why);
  process.exit(1);
}
const late = setTimeout(() => failed("not online in time"), LOGIN_MS);

xmpp.on("error", (error) => {
  console.error(error);
  if (!begun) failed(error);
});
xmpp.on("disconnect", ({ clean }) => {
  if (online && !stopping) say("lost", clean ? "closed" : "connection lost");
  online = false;
});
xmpp.on("online", async () => {
  clearTimeout(late);
  await xmpp.iqCaller.get(xml("query", "jabber:iq:roster"));
  await xmpp.send(xml("presence"));
  online = begun = true;
  say("online");
});
xmpp.on("stanza", (stanza) => {
  const body = stanza.is("message") && stanza.getChildText("body");
  if (body && stanza.attrs.from?.split("/")[0] === XB_PEER) say("got", body);
});

async function stop() {
  stopping = true;
  await xmpp.stop();
  say("offline");
  process.exit(0);
}

xmpp.start().catch(failed);
const lines = createInterface({ input: process.stdin });
for await (const line of lines) {
  const [, command, text] = /^(\S*) ?(.*)$/.exec(line);
  if (command === "quit") break;
  if (command !== "send") continue;
  xmpp
    .send(xml("message", { to: XB_PEER, type: "chat" }, xml("body", {}, text)))
    .catch((error) => console.error("not sent:", error));
}
await stop();
