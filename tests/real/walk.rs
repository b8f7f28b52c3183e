//! What a user does in one session, and what the other side must see of it.

use xbosh_testkit::client::{
    Account, Client, ClientError, Mechanism, Place, Reader, Stanza, Writer,
};
use xbosh_testkit::real::Server;

/// Messages each way.
const MESSAGES: usize = 200;

/// Logs in at `addr`, does what clients do, exchanges numbered messages with a peer on direct TCP, logs out.
pub(crate) async fn session(
    place: impl Into<Place>,
    server: &dyn Server,
    mechanism: Mechanism,
    names: &str,
) {
    let (account, mut peer) = pair(server, names).await;
    let mut client = Client::login(place, &account, mechanism).await.unwrap();
    assert!(client.jid().starts_with(&account.jid()), "{}", client.jid());
    assert!(
        client
            .roster()
            .await
            .unwrap()
            .has("jabber:iq:roster", "query")
    );
    client.ping().await.unwrap();
    client.available(None).await.unwrap();

    // Directed presence, so that the peer is told of the end.
    client.available(Some(peer.jid())).await.unwrap();
    let jid = client.jid().to_owned();
    peer.wait_for(|stanza| is_presence(stanza, &jid, ""))
        .await
        .unwrap();

    exchange(&mut client, &mut peer).await;
    no_more_messages(&mut client).await;
    no_more_messages(&mut peer).await;

    assert_no_message(&client.logout().await.unwrap());
    loop {
        let stanza = peer.next_stanza().await.unwrap();
        assert_ne!(stanza.name(), "message", "{stanza:?}");
        if is_presence(&stanza, &jid, "unavailable") {
            break;
        }
    }
    assert_no_message(&peer.logout().await.unwrap());
}

/// A new account, and another one's client, bound on direct TCP.
pub(crate) async fn pair(server: &dyn Server, names: &str) -> (Account, Client) {
    let account = server.add_account(names).unwrap();
    let other = server.add_account(&format!("peer-of-{names}")).unwrap();
    let mut peer = Client::login(server.c2s(), &other, Mechanism::Plain)
        .await
        .unwrap();
    peer.available(None).await.unwrap();
    (account, peer)
}

/// Whether this is presence of that type from that JID.
pub(crate) fn is_presence(stanza: &Stanza, from: &str, kind: &str) -> bool {
    stanza.is("presence", kind) && stanza.attribute("from").as_deref() == Some(from)
}

/// Both send at the same time; both must receive all, once and in order.
async fn exchange(client: &mut Client, peer: &mut Client) {
    let (up, down) = (client.jid().to_owned(), peer.jid().to_owned());
    let (client_in, client_out) = client.halves();
    let (peer_in, peer_out) = peer.halves();
    let (sent, answered, at_peer, at_client) = tokio::join!(
        send_numbers(client_out, &down),
        send_numbers(peer_out, &up),
        receive_numbers(peer_in, &up),
        receive_numbers(client_in, &down),
    );
    sent.unwrap();
    answered.unwrap();
    let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(at_peer.unwrap(), expected, "from the client to the peer");
    assert_eq!(at_client.unwrap(), expected, "from the peer to the client");
}

async fn send_numbers(writer: &mut Writer, to: &str) -> Result<(), ClientError> {
    for number in 0..MESSAGES {
        writer.message(to, &number.to_string()).await?;
    }
    Ok(())
}

/// The bodies up to the last number, in the order in which they came.
async fn receive_numbers(reader: &mut Reader, from: &str) -> Result<Vec<String>, String> {
    let last = (MESSAGES - 1).to_string();
    let mut bodies = Vec::with_capacity(MESSAGES);
    loop {
        let stanza = reader
            .next_stanza()
            .await
            .map_err(|error| format!("{error} after {} messages", bodies.len()))?;
        if stanza.name() != "message" {
            continue;
        }
        assert_eq!(
            stanza.attribute("type").as_deref(),
            Some("chat"),
            "{stanza:?}"
        );
        assert_eq!(stanza.attribute("from").as_deref(), Some(from));
        let body = stanza.child_text("body").unwrap_or_default();
        let done = body == last;
        bodies.push(body);
        if done {
            return Ok(bodies);
        }
    }
}

/// A ping's answer comes after all that the server sent before: a doubled message would come first.
async fn no_more_messages(client: &mut Client) {
    let domain = client.jid().split(['@', '/']).nth(1).unwrap().to_owned();
    let ping = format!("<iq type='get' id='last' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>");
    client.send(&ping).await.unwrap();
    loop {
        let stanza = client.next_stanza().await.unwrap();
        assert_ne!(stanza.name(), "message", "{stanza:?}");
        if stanza.attribute("id").as_deref() == Some("last") {
            return;
        }
    }
}

fn assert_no_message(stanzas: &[Stanza]) {
    let message = stanzas.iter().find(|stanza| stanza.name() == "message");
    assert_eq!(message, None);
}
