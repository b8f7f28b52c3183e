//! The tiny server, over plain TCP.

use sha1::{Digest as _, Sha1};
use xbosh_testkit::client::raw::Raw;
use xbosh_testkit::client::{Account, Client, ClientError, Mechanism};
use xbosh_testkit::xmpp::Server;

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

fn server() -> Server {
    let server = Server::new("localhost");
    for user in ["alice", "bob"] {
        server.add_user(user, "secret");
    }
    server
}

fn account(user: &str) -> Account {
    Account::new(user, "localhost", "secret")
}

#[tokio::test]
async fn logins_echo_and_logout() {
    let server = server();
    let listener = server.listen().await;
    for mechanism in [Mechanism::Plain, Mechanism::Scram] {
        let mut client = Client::login(listener.addr(), &account("alice"), mechanism)
            .await
            .unwrap();
        client.roster().await.unwrap();
        client.ping().await.unwrap();
        for n in 0..100 {
            client
                .message("echo@localhost", &format!("<{n}>"))
                .await
                .unwrap();
        }
        for n in 0..100 {
            let stanza = client.wait_for(|s| s.name() == "message").await.unwrap();
            assert_eq!(stanza.child_text("body"), Some(format!("<{n}>")));
            assert_eq!(stanza.attribute("from").as_deref(), Some("echo@localhost"));
        }
        client.logout().await.unwrap();
    }
    assert_eq!(server.online().len(), 0);
    let wrong = Account::new("alice", "localhost", "wrong");
    for mechanism in [Mechanism::Plain, Mechanism::Scram] {
        assert!(
            Client::login(listener.addr(), &wrong, mechanism)
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn messages_between_users_are_stamped_and_bounced() {
    let server = server();
    let listener = server.listen().await;
    let mut alice = Client::login(listener.addr(), &account("alice"), Mechanism::Plain)
        .await
        .unwrap();
    let mut bob = Client::login(listener.addr(), &account("bob"), Mechanism::Plain)
        .await
        .unwrap();
    alice.send("<message from='forged@localhost' to='bob@localhost' id='a>b'><body>hi</body></message>").await.unwrap();
    let stanza = bob.next_stanza().await.unwrap();
    assert_eq!(stanza.attribute("from").as_deref(), Some(alice.jid()));
    let iq = format!(
        "<iq type='get' id='q' to='{}'><query xmlns='x'/></iq>",
        bob.jid()
    );
    alice.send(&iq).await.unwrap();
    assert!(bob.next_stanza().await.unwrap().is("iq", "get"));
    bob.logout().await.unwrap();
    assert!(
        alice
            .next_stanza()
            .await
            .unwrap()
            .is("presence", "unavailable")
    );
    alice
        .message("bob@localhost", "are you there?")
        .await
        .unwrap();
    assert!(alice.next_stanza().await.unwrap().is("message", "error"));
    let sent = server.received("alice@localhost");
    assert_eq!(sent.len(), 3, "{sent:?}");
}

#[tokio::test]
async fn offline_messages_wait_for_presence() {
    let server = server();
    server.configure(|options| options.offline = true);
    let listener = server.listen().await;
    let mut alice = Client::login(listener.addr(), &account("alice"), Mechanism::Plain)
        .await
        .unwrap();
    alice.message("bob@localhost", "later").await.unwrap();
    alice.ping().await.unwrap();
    let mut bob = Client::login(listener.addr(), &account("bob"), Mechanism::Plain)
        .await
        .unwrap();
    bob.available(None).await.unwrap();
    let stanza = bob.wait_for(|s| s.name() == "message").await.unwrap();
    assert_eq!(stanza.child_text("body").as_deref(), Some("later"));
}

#[tokio::test]
async fn a_resource_that_is_taken_ends_the_older_stream() {
    let server = server();
    let listener = server.listen().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(listener.addr(), "localhost").await.unwrap();
        client.open().await.unwrap();
        client
            .authenticate(&account("alice"), Mechanism::Plain)
            .await
            .unwrap();
        client.open().await.unwrap();
        client.bind(Some("same")).await.unwrap();
        clients.push(client);
    }
    match clients[0].next_stanza().await {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "conflict"),
        other => panic!("{other:?}"),
    }
    clients[1].ping().await.unwrap();
    assert_eq!(server.online(), ["alice@localhost/same"]);
}

/// XEP-0078, with the digest over the stream's id.
#[tokio::test]
async fn legacy_logins() {
    let server = server();
    server.configure(|options| options.legacy_auth = true);
    let listener = server.listen().await;
    let mut client = Raw::connect(listener.addr()).await.unwrap();
    client.send(HEADER).await.unwrap();
    let opened = client.read_until("</stream:features>").await.unwrap();
    assert!(opened.contains("iq-auth"));
    let id = opened
        .split("id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    let digest: String = Sha1::digest(format!("{id}secret"))
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let login = |field: &str| {
        format!(
            "<iq type='set' id='1'><query xmlns='jabber:iq:auth'><username>alice</username>{field}\
             <resource>old</resource></query></iq>"
        )
    };
    client.send(login("<digest>00</digest>")).await.unwrap();
    assert!(
        client
            .read_until("</iq>")
            .await
            .unwrap()
            .contains("not-authorized")
    );
    client
        .send(login(&format!("<digest>{digest}</digest>")))
        .await
        .unwrap();
    assert!(
        client
            .read_until("</iq>")
            .await
            .unwrap()
            .contains("type='result'")
    );
    assert_eq!(server.online(), ["alice@localhost/old"]);
}

/// XEP-0077: an account made on the spot can log in.
#[tokio::test]
async fn registration() {
    let server = server();
    server.configure(|options| options.registration = true);
    let listener = server.listen().await;
    let mut client = Raw::connect(listener.addr()).await.unwrap();
    client.send(HEADER).await.unwrap();
    client.read_until("</stream:features>").await.unwrap();
    let query = "<query xmlns='jabber:iq:register'><username>carol</username><password>secret</password></query>";
    client
        .send(format!("<iq type='set' id='1'>{query}</iq>"))
        .await
        .unwrap();
    assert!(
        client
            .read_until("</iq>")
            .await
            .unwrap()
            .contains("type='result'")
    );
    Client::login(listener.addr(), &account("carol"), Mechanism::Plain)
        .await
        .unwrap();
}

/// XEP-0388 with XEP-0386: one step to a bound stream, without a restart.
#[tokio::test]
async fn sasl2_binds_without_a_restart() {
    let server = server();
    server.configure(|options| options.sasl2 = true);
    let listener = server.listen().await;
    let mut client = Raw::connect(listener.addr()).await.unwrap();
    client.send(HEADER).await.unwrap();
    assert!(
        client
            .read_until("</stream:features>")
            .await
            .unwrap()
            .contains("urn:xmpp:sasl:2")
    );
    client
        .send(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
             <initial-response>AGFsaWNlAHNlY3JldA==</initial-response>\
             <bind xmlns='urn:xmpp:bind:0'><tag>test</tag></bind></authenticate>",
        )
        .await
        .unwrap();
    let answer = client.read_until("</stream:features>").await.unwrap();
    assert!(
        answer.contains("<authorization-identifier>alice@localhost/test~"),
        "{answer}"
    );
    client
        .send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await
        .unwrap();
    assert!(
        client
            .read_until("</iq>")
            .await
            .unwrap()
            .contains("type='result'")
    );
}

/// Stanzas before binding are refused with a stream error.
#[tokio::test]
async fn strangers_are_refused() {
    let listener = server().listen().await;
    let mut client = Raw::connect(listener.addr()).await.unwrap();
    client.send(format!("{HEADER}<presence/>")).await.unwrap();
    assert!(
        client
            .read_to_end()
            .await
            .unwrap()
            .contains("<not-authorized")
    );
}
