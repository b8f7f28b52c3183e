//! SASL2 and Bind2 (XEP-0388, XEP-0386) between client and server, through xbosh (S-42).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use xbosh_testkit::client::{Account, Client, Mechanism, Stanza};
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{Prosody, Sidecar};

use crate::support::xbosh_before;
use crate::walk;

const SASL2: &str = "urn:xmpp:sasl:2";
const BIND2: &str = "urn:xmpp:bind:0";
const CARBONS: &str = "urn:xmpp:carbons:2";
const SM: &str = "urn:xmpp:sm:3";
// Its sasl2_fast (XEP-0484) wants a newer Prosody than Debian has.
const MODULES: &str = r#"modules_enabled = { "roster"; "saslauth"; "tls"; "disco"; "ping"; "carbons"; "smacks"; "bosh";
    "sasl2"; "sasl2_bind2"; "sasl2_sm"; "bosh_base_type" }"#;

/// A Prosody that offers them. Debian's ejabberd (23.01) does not.
fn start() -> Option<(Prosody, Sidecar)> {
    available::all(&[Program::Prosody, Program::ProsodyModules]).then(|| {
        let server = Prosody::start_with(MODULES).unwrap();
        let xbosh = xbosh_before(&server);
        (server, xbosh)
    })
}

async fn authenticate(client: &mut Client, account: &Account, inline: &str) -> Stanza {
    let response = BASE64.encode(format!("\0{}\0{}", account.user, account.password));
    client
        .send(&format!(
            "<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>{response}</initial-response>\
             <user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>test</software></user-agent>\
             {inline}</authenticate>"
        ))
        .await
        .unwrap();
    client.next_stanza().await.unwrap()
}

/// The mechanisms in one of the lists.
fn mechanisms(features: &Stanza, list: (&str, &str)) -> Vec<String> {
    features.read(|features| {
        let list = features.descendants().find(|n| n.has_tag_name(list));
        let names = list.into_iter().flat_map(|list| list.children());
        names
            .filter(|node| node.tag_name().name() == "mechanism")
            .filter_map(|node| node.text().map(str::to_owned))
            .collect()
    })
}

/// One round trip logs in, binds, switches carbons on and stream management, which is xbosh's own.
#[tokio::test]
async fn s42_login_and_bind_in_one() {
    let Some((server, xbosh)) = start() else {
        return;
    };
    let (account, mut peer) = walk::pair(&server, "sasl2").await;
    let mut client = Client::connect(xbosh.addr(), &account.domain)
        .await
        .unwrap();
    let features = client.open().await.unwrap();
    assert!(features.has(BIND2, "bind"), "{features:?}");
    let offered = mechanisms(&features, (SASL2, "authentication"));
    assert!(offered.contains(&"SCRAM-SHA-1".to_owned()), "{offered:?}");
    assert!(!offered.iter().any(|m| m.ends_with("-PLUS")), "{offered:?}");
    let inline = format!(
        "<bind xmlns='{BIND2}'><tag>desk</tag><enable xmlns='{CARBONS}'/><enable xmlns='{SM}' resume='true'/></bind>"
    );
    let success = authenticate(&mut client, &account, &inline).await;
    assert!(success.has(SASL2, "success"), "{success:?}");
    assert!(success.has(BIND2, "bound"), "{success:?}");
    assert!(success.has(CARBONS, "enabled"), "{success:?}");
    assert!(success.has(SM, "enabled"), "{success:?}");
    let jid = success.child_text("authorization-identifier").unwrap();
    assert!(
        jid.starts_with(&format!("{}/desk~", account.jid())),
        "{jid}"
    );
    // In the same stream, without a new header.
    let features = client.next_stanza().await.unwrap();
    assert_eq!(features.name(), "stream:features");

    client.available(Some(peer.jid())).await.unwrap();
    peer.wait_for(|stanza| walk::is_presence(stanza, &jid, ""))
        .await
        .unwrap();
    peer.message(&jid, "to the desk").await.unwrap();
    let is_message = |stanza: &Stanza| stanza.name() == "message";
    let message = client.wait_for(is_message).await.unwrap();
    let body = message.child_text("body");
    assert_eq!(body.as_deref(), Some("to the desk"));

    // Carbons were switched on inside `<bind/>`.
    let mut phone = Client::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    phone.available(None).await.unwrap();
    phone.message(peer.jid(), "from the phone").await.unwrap();
    let copy = client.wait_for(|s| s.has(CARBONS, "sent")).await.unwrap();
    assert!(copy.text().contains("from the phone"), "{copy:?}");

    // The server never saw stream management: what is confirmed is xbosh's count.
    client.send(&format!("<r xmlns='{SM}'/>")).await.unwrap();
    client.wait_for(|s| s.has(SM, "a")).await.unwrap();
    client.logout().await.unwrap();
}

/// A wrong password is refused, and the same stream logs in the old way, with a restart.
#[tokio::test]
async fn s42_refused_then_sasl1() {
    let Some((server, xbosh)) = start() else {
        return;
    };
    let (account, _peer) = walk::pair(&server, "sasl2-again").await;
    let wrong = Account::new(&account.user, &account.domain, "guessed");
    let mut client = Client::connect(xbosh.addr(), &account.domain)
        .await
        .unwrap();
    client.open().await.unwrap();
    let failure = authenticate(&mut client, &wrong, "").await;
    assert!(failure.has(SASL2, "failure"), "{failure:?}");
    assert!(failure.text().contains("<not-authorized"), "{failure:?}");
    // This mod_sasl2 takes no second attempt of its own kind.
    client
        .authenticate(&account, Mechanism::Scram)
        .await
        .unwrap();
    client.open().await.unwrap();
    client.bind(None).await.unwrap();
    client.ping().await.unwrap();
    client.logout().await.unwrap();
}
