//! What xbosh does not know of passes through it: registration, carbons, archives, client state, upload slots,
//! logins of old clients. On servers of their own, since some of it changes what servers do with messages.

use std::sync::LazyLock;
use std::time::Duration;

use xbosh_testkit::client::raw::Raw;
use xbosh_testkit::client::{Account, Client, ClientError, Mechanism, Stanza};
use xbosh_testkit::real::{Ejabberd, Prosody, Server, Sidecar};

use crate::support::{Site, Way, domain_config, xbosh};
use crate::walk;

/// `modules_enabled` again: the later one counts. The component answers for uploads.
const PROSODY_SETTINGS: &str = r#"
    modules_enabled = { "roster"; "saslauth"; "tls"; "disco"; "ping"; "carbons"; "mam"; "smacks"; "register_ibr"; "bosh"; "csi_simple"; "csi_witness"; "legacyauth" }
    Component "upload.xmpp.test" "http_file_share"
"#;
const EJABBERD_MODULES: &str = ", mod_mam: {default: always, assume_mam_usage: true}, mod_client_state: {}, \
    mod_carboncopy: {}, mod_legacy_auth: {}, mod_http_upload: {access: all, docroot: /tmp, put_url: \"https://@HOST@:5443/upload\"}";

static PROSODY: LazyLock<Result<Prosody, String>> =
    LazyLock::new(|| Prosody::start_with(PROSODY_SETTINGS));
static EJABBERD: LazyLock<Result<Ejabberd, String>> =
    LazyLock::new(|| Ejabberd::start_with(EJABBERD_MODULES));

/// The server, and xbosh in front of it.
fn before(site: Site) -> Option<(&'static dyn Server, Sidecar)> {
    if !Way::Direct.available(site) {
        return None;
    }
    let server: &dyn Server = match site {
        Site::Prosody => LazyLock::force(&PROSODY).as_ref().unwrap(),
        Site::Ejabberd => LazyLock::force(&EJABBERD).as_ref().unwrap(),
    };
    let url = server.bosh_url(false, "127.0.0.1");
    let config = Way::Direct.config() + &domain_config(server.domain(), &url);
    Some((server, xbosh(&config)))
}

async fn login(xbosh: &Sidecar, account: &Account) -> Client {
    Client::login(xbosh.addr(), account, Mechanism::Scram)
        .await
        .unwrap()
}

fn body_inside(stanza: &Stanza) -> Option<String> {
    stanza.read(|element| {
        let body = element
            .descendants()
            .find(|node| node.has_tag_name(("jabber:client", "body")));
        body.and_then(|body| body.text().map(str::to_owned))
    })
}

/// S-46: an account is made, and logged in to on the same stream.
async fn registration(site: Site) {
    let Some((server, xbosh)) = before(site) else {
        return;
    };
    let mut client = Client::connect(xbosh.addr(), server.domain())
        .await
        .unwrap();
    let features = client.open().await.unwrap();
    assert!(
        features.has("http://jabber.org/features/iq-register", "register"),
        "{}",
        features.text()
    );
    let account = Account::new("newcomer", server.domain(), "first secret");
    client
        .iq(
            "set",
            None,
            "<query xmlns='jabber:iq:register'><username>newcomer</username><password>first secret</password></query>",
        )
        .await
        .unwrap();
    client
        .authenticate(&account, Mechanism::Plain)
        .await
        .unwrap();
    client.open().await.unwrap();
    client.bind(None).await.unwrap();
    client.ping().await.unwrap();
    client.logout().await.unwrap();
}

/// XEP-0280: what one resource gets and sends, the other sees.
async fn carbons(site: Site) {
    let Some((server, xbosh)) = before(site) else {
        return;
    };
    let (account, mut peer) = walk::pair(server, "copied").await;
    let (mut first, mut second) = (login(&xbosh, &account).await, login(&xbosh, &account).await);
    for client in [&mut first, &mut second] {
        client
            .iq("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>")
            .await
            .unwrap();
        client.available(None).await.unwrap();
    }
    // Both are known to be there before anything is sent.
    for client in [&mut first, &mut second] {
        client.ping().await.unwrap();
    }
    let to = first.jid().to_owned();
    peer.message(&to, "for the first").await.unwrap();
    let copy = second.wait_for(|s| s.name() == "message").await.unwrap();
    assert!(
        copy.has("urn:xmpp:carbons:2", "received"),
        "{}",
        copy.text()
    );
    assert_eq!(body_inside(&copy).as_deref(), Some("for the first"));

    let to = peer.jid().to_owned();
    second.message(&to, "of the second").await.unwrap();
    let copy = first
        .wait_for(|s| s.has("urn:xmpp:carbons:2", "sent"))
        .await
        .unwrap();
    assert_eq!(body_inside(&copy).as_deref(), Some("of the second"));
}

/// XEP-0313: what came is found again in the archive.
async fn archive(site: Site) {
    let Some((server, xbosh)) = before(site) else {
        return;
    };
    let (account, mut peer) = walk::pair(server, "archived").await;
    let mut client = login(&xbosh, &account).await;
    client.available(None).await.unwrap();
    client.ping().await.unwrap();
    for number in 0..3 {
        let text = format!("number {number}");
        peer.message(client.jid(), &text).await.unwrap();
        let message = client.wait_for(|s| s.name() == "message").await.unwrap();
        assert_eq!(message.child_text("body"), Some(text));
    }
    client
        .send("<iq type='set' id='mam'><query xmlns='urn:xmpp:mam:2' queryid='f'/></iq>")
        .await
        .unwrap();
    let mut found = Vec::new();
    loop {
        let stanza = client.next_stanza().await.unwrap();
        if stanza.has("urn:xmpp:mam:2", "result") {
            found.extend(body_inside(&stanza));
        } else if stanza.name() == "iq" && stanza.attribute("id").as_deref() == Some("mam") {
            assert_eq!(
                stanza.attribute("type").as_deref(),
                Some("result"),
                "{}",
                stanza.text()
            );
            break;
        }
    }
    assert_eq!(found, ["number 0", "number 1", "number 2"]);
}

/// What Prosody has logged of this client's state, in order.
fn states_in_log(jid: &str) -> Vec<String> {
    let prosody = LazyLock::force(&PROSODY).as_ref().unwrap();
    let log = prosody.log();
    let of = |line: &str| {
        let (state, of) = line.split_once("client state ")?.1.split_once(": ")?;
        (of.trim() == jid).then(|| state.to_owned())
    };
    log.lines().filter_map(of).collect()
}

/// XEP-0352: what an inactive client says of itself reaches the server before anything that it says afterwards. Presence
/// for it then waits at ejabberd, which keeps the last one; Prosody lets all of it through over BOSH, so that its log says.
async fn client_state(site: Site) {
    let Some((server, xbosh)) = before(site) else {
        return;
    };
    let (account, mut peer) = walk::pair(server, "idle").await;
    let mut client = login(&xbosh, &account).await;
    client.available(None).await.unwrap();
    // Another resource, which stays active: what it has been sent, the server has worked off.
    let mut witness = login(&xbosh, &account).await;
    witness.available(None).await.unwrap();
    witness.ping().await.unwrap();
    client.ping().await.unwrap();
    client
        .send("<inactive xmlns='urn:xmpp:csi:0'/>")
        .await
        .unwrap();
    // Behind it, and not answered: any answer would let the rest through.
    client.message(peer.jid(), "I am idle").await.unwrap();
    peer.wait_for(|s| s.child_text("body").as_deref() == Some("I am idle"))
        .await
        .unwrap();
    let jids = [client.jid().to_owned(), witness.jid().to_owned()];
    for show in ["chat", "away", "dnd"] {
        for jid in &jids {
            peer.send(&format!(
                "<presence to='{jid}'><show>{show}</show></presence>"
            ))
            .await
            .unwrap();
        }
    }
    peer.ping().await.unwrap();
    let is_shown = |stanza: &Stanza| stanza.child_text("show").is_some();
    for expected in ["chat", "away", "dnd"] {
        let presence = witness.wait_for(is_shown).await.unwrap();
        assert_eq!(presence.child_text("show").as_deref(), Some(expected));
    }
    match site {
        Site::Prosody => assert_eq!(states_in_log(client.jid()), ["inactive"]),
        Site::Ejabberd => {
            client.set_deadline(Duration::from_secs(1));
            match client.wait_for(is_shown).await {
                Err(ClientError::Timeout(..)) => {}
                early => panic!("it is to wait: {early:?}"),
            }
            client.set_deadline(Duration::from_secs(10));
        }
    }
    client
        .send("<active xmlns='urn:xmpp:csi:0'/>")
        .await
        .unwrap();
    let mut shows = Vec::new();
    while shows.last().map(String::as_str) != Some("dnd") {
        let presence = client.wait_for(is_shown).await.unwrap();
        shows.extend(presence.child_text("show"));
    }
    let expected: &[&str] = match site {
        Site::Prosody => &["chat", "away", "dnd"],
        Site::Ejabberd => &["dnd"],
    };
    assert_eq!(shows, expected);
    client.ping().await.unwrap();
    if site == Site::Prosody {
        assert_eq!(states_in_log(client.jid()), ["inactive", "active"]);
    }
    client.logout().await.unwrap();
}

/// XEP-0363: a slot; the upload itself is the client's own business.
async fn upload_slot(site: Site) {
    let Some((server, xbosh)) = before(site) else {
        return;
    };
    let account = server.add_account("uploader").unwrap();
    let mut client = login(&xbosh, &account).await;
    let to = format!("upload.{}", server.domain());
    let request = "<request xmlns='urn:xmpp:http:upload:0' filename='a b&amp;c.txt' size='5' content-type='text/plain'/>";
    let slot = client.iq("get", Some(&to), request).await.unwrap();
    for name in ["put", "get"] {
        let url = slot.read(|iq| {
            let node = iq
                .descendants()
                .find(|node| node.has_tag_name(("urn:xmpp:http:upload:0", name)));
            node.and_then(|node| node.attribute("url").map(str::to_owned))
        });
        assert!(
            url.is_some_and(|url| url.starts_with("http")),
            "{}",
            slot.text()
        );
    }
}

/// S-40: jabber:iq:auth with a password, from a client of before XMPP 1.0.
async fn old_login(site: Site) {
    let Some((server, xbosh)) = before(site) else {
        return;
    };
    let account = server.add_account("veteran").unwrap();
    // ejabberd mostly holds a session's creation that asks for no version, but not always.
    for _ in 0..3 {
        log_in_as_of_old(server.domain(), &xbosh, &account).await;
    }
}

async fn log_in_as_of_old(domain: &str, xbosh: &Sidecar, account: &Account) {
    let mut client = Raw::connect(xbosh.addr()).await.unwrap();
    client.set_deadline(Duration::from_secs(60));
    client
        .send(format!("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{domain}'>"))
        .await
        .unwrap();
    client.read_until("<stream:stream").await.unwrap();
    let header = client.read_until(">").await.unwrap();
    assert!(!header.contains("version="), "{header}");
    client
        .send("<iq type='get' id='a'><query xmlns='jabber:iq:auth'><username>veteran</username></query></iq>")
        .await
        .unwrap();
    let fields = client.read_until("</iq>").await.unwrap();
    assert!(fields.contains("<password/>"), "{fields}");
    client
        .send(format!("<iq type='set' id='b'><query xmlns='jabber:iq:auth'><username>veteran</username><password>{}</password><resource>old</resource></query></iq>", account.password))
        .await
        .unwrap();
    let result = client.read_until(">").await.unwrap();
    assert!(result.contains("result"), "{result}");
    client
        .send(format!(
            "<iq type='get' id='c' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await
        .unwrap();
    let pong = client.read_until("id='c'").await.unwrap();
    assert!(!pong.contains("error"), "{pong}");
    client.send("</stream:stream>").await.unwrap();
    let end = client.read_to_end().await.unwrap();
    assert!(end.ends_with("</stream:stream>"), "{end}");
}

macro_rules! tests {
    ($($name:ident: $test:ident($site:ident);)*) => {$(
        #[tokio::test]
        async fn $name() {
            $test(Site::$site).await;
        }
    )*};
}

tests! {
    s46_registration_prosody: registration(Prosody);
    s46_registration_ejabberd: registration(Ejabberd);
    carbons_prosody: carbons(Prosody);
    carbons_ejabberd: carbons(Ejabberd);
    archive_prosody: archive(Prosody);
    archive_ejabberd: archive(Ejabberd);
    s46_client_state_prosody: client_state(Prosody);
    s46_client_state_ejabberd: client_state(Ejabberd);
    upload_slot_prosody: upload_slot(Prosody);
    upload_slot_ejabberd: upload_slot(Ejabberd);
    s40_old_login_prosody: old_login(Prosody);
    s40_old_login_ejabberd: old_login(Ejabberd);
}
