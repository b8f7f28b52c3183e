//! Clients of before XMPP 1.0, clients in a hurry, and clients that do not behave, through the whole chain.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};
use xbosh_testkit::client::raw::Raw;
use xbosh_testkit::cm::Profile;

use super::support::{Chain, DOMAIN};

const STREAMS: &str = "http://etherx.jabber.org/streams";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";

fn header(version: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' to='{DOMAIN}'{version}>"
    )
}

fn plain() -> String {
    let secret = BASE64.encode("\0user\0password");
    format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>")
}

fn message(number: u32) -> String {
    format!("<message to='echo@{DOMAIN}' type='chat'><body>odd {number}</body></message>")
}

/// Sends one, and expects it back.
async fn echo(client: &mut Raw, number: u32) {
    client.send(message(number)).await.unwrap();
    let back = client.read_until("</message>").await.unwrap();
    assert!(back.contains(&format!("odd {number}<")), "{back}");
}

/// A value of an attribute, however it is quoted.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.find(&format!(" {name}=")).unwrap() + name.len() + 2;
    let quote = &text[at..=at];
    text[at + 1..].split(quote).next().unwrap()
}

/// S-40: header without version: none in the answer, no features, login by jabber:iq:auth; digest logins hash the
/// stream's id, which has to be the server's.
async fn legacy(profile: Profile, digest: bool) {
    let chain = Chain::start(profile).await;
    chain.server.configure(|options| options.legacy_auth = true);
    let mut client = Raw::connect(chain.addr()).await.unwrap();
    client.send(header("")).await.unwrap();
    let mut answer = client.read_until("<stream:stream").await.unwrap();
    answer.push_str(&client.read_until(">").await.unwrap());
    let tag = answer.split("<stream:stream").nth(1).unwrap();
    assert!(!tag.contains("version="), "{answer}");
    let id = value(tag, "id").to_owned();

    client
        .send("<iq type='get' id='a'><query xmlns='jabber:iq:auth'><username>user</username></query></iq>")
        .await
        .unwrap();
    let fields = client.read_until("</iq>").await.unwrap();
    assert!(!fields.contains("features"), "{fields}");
    assert!(fields.contains("<digest/>"), "{fields}");
    let proof = if digest {
        let hash: String = Sha1::digest(format!("{id}password"))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("<digest>{hash}</digest>")
    } else {
        "<password>password</password>".to_owned()
    };
    client
        .send(format!("<iq type='set' id='b'><query xmlns='jabber:iq:auth'><username>user</username>{proof}<resource>old</resource></query></iq>"))
        .await
        .unwrap();
    let result = client.read_until("id='b'").await.unwrap();
    assert!(!result.contains("error"), "{result}");
    for number in 0..3 {
        echo(&mut client, number).await;
    }
    client.send("</stream:stream>").await.unwrap();
    let end = client.read_to_end().await.unwrap();
    assert!(end.ends_with("</stream:stream>"), "{end}");
    chain.assert_faithful();
    for post in chain.cm.posts() {
        assert!(!post.body.contains("xmpp:version"), "X-08: {}", post.body);
        assert!(!post.body.contains("xmpp:restart"), "{}", post.body);
    }
}

#[tokio::test]
async fn s40_plain_login() {
    legacy(Profile::strict(), false).await;
}

#[tokio::test]
async fn s40_digest_login() {
    legacy(Profile::prosody(), true).await;
}

/// S-41: the whole login and a message in one write.
#[tokio::test]
async fn s41_one_write() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = Raw::connect(chain.addr()).await.unwrap();
    let version = " version='1.0'";
    let all = [
        header(version),
        plain(),
        header(version),
        BIND.into(),
        message(7),
    ];
    client.send(all.concat()).await.unwrap();
    let back = client.read_until("</message>").await.unwrap();
    assert!(back.contains("odd 7<"), "{back}");
    chain.assert_faithful();
}

/// Logs in, with blanks between everything and a prefix of its own.
async fn login_oddly(chain: &Chain) -> Raw {
    let mut client = Raw::connect(chain.addr()).await.unwrap();
    let header = format!(
        "<?xml version=\"1.0\" encoding='UTF-8'?>\r\n <odd:stream to='{DOMAIN}' version='1.0' xmlns:odd='{STREAMS}' xmlns='jabber:client'  xml:lang='de' >\n"
    );
    client.send(&header).await.unwrap();
    client.read_until("</stream:features>").await.unwrap();
    client.send(format!(" \n{}\t ", plain())).await.unwrap();
    client.read_until("<success").await.unwrap();
    client.send(format!("   {header}")).await.unwrap();
    client.read_until("</stream:features>").await.unwrap();
    client.send(format!("\n\n{BIND} ")).await.unwrap();
    client.read_until("</iq>").await.unwrap();
    client
}

/// S-14, S-21: any prefix for the stream, blanks as signs of life everywhere.
#[tokio::test]
async fn s14_s21_prefixes_and_blanks() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = login_oddly(&chain).await;
    for number in 0..3 {
        client.send(" ").await.unwrap();
        echo(&mut client, number).await;
        client.send("\n\n").await.unwrap();
    }
    client.send(" </odd:stream>").await.unwrap();
    let end = client.read_to_end().await.unwrap();
    assert!(end.trim_end().ends_with("</stream:stream>"), "{end}");
    chain.assert_faithful();
}

/// E-12: a header where none may be.
#[tokio::test]
async fn e12_a_header_again() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = login_oddly(&chain).await;
    client.send(header(" version='1.0'")).await.unwrap();
    let end = client.read_to_end().await.unwrap();
    assert!(end.contains("<stream:error>"), "{end}");
    assert!(end.ends_with("</stream:stream>"), "{end}");
    no_session_is_left(&chain).await;
}

/// S-38: compression is refused, the stream goes on.
#[tokio::test]
async fn s38_compression() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = Raw::connect(chain.addr()).await.unwrap();
    client.send(header(" version='1.0'")).await.unwrap();
    client.read_until("</stream:features>").await.unwrap();
    client
        .send("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>")
        .await
        .unwrap();
    let refusal = client.read_until("</failure>").await.unwrap();
    assert!(refusal.contains("<setup-failed"), "{refusal}");
    client.send(plain()).await.unwrap();
    client.read_until("<success").await.unwrap();
    chain.assert_faithful();
}

/// S-18: a client that closes its direction behind its goodbye gets ours; one that closes it without a word is gone.
#[tokio::test]
async fn s18_half_closed() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = login_oddly(&chain).await;
    client
        .send(format!("{}</odd:stream>", message(1)))
        .await
        .unwrap();
    client.finish().await.unwrap();
    let end = client.read_to_end().await.unwrap();
    assert!(end.ends_with("</stream:stream>"), "{end}");
    no_session_is_left(&chain).await;

    let mut client = login_oddly(&chain).await;
    client.finish().await.unwrap();
    client.read_to_end().await.unwrap();
    no_session_is_left(&chain).await;
    chain.assert_faithful();
}

/// S-18: a client that is told the end, and never closes, does not stay.
#[tokio::test]
async fn s18_never_closes() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = login_oddly(&chain).await;
    client.set_deadline(Duration::from_secs(20));
    client.send("<?bad?>").await.unwrap();
    let end = client.read_until("</stream:stream>").await.unwrap();
    assert!(end.contains("restricted-xml"), "{end}");
    // Nothing more is done by the client; the connection ends all the same.
    client.read_to_end().await.unwrap();
    no_session_is_left(&chain).await;
}

/// S-42: SASL2 with Bind 2: no restart, no second header.
#[tokio::test]
async fn s42_sasl2_and_bind2() {
    let chain = Chain::start(Profile::strict()).await;
    chain.server.configure(|options| options.sasl2 = true);
    let mut client = Raw::connect(chain.addr()).await.unwrap();
    client.send(header(" version='1.0'")).await.unwrap();
    let features = client.read_until("</stream:features>").await.unwrap();
    assert!(features.contains("urn:xmpp:sasl:2"), "{features}");
    let secret = BASE64.encode("\0user\0password");
    client
        .send(format!("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>{secret}</initial-response><bind xmlns='urn:xmpp:bind:0'><tag>odd</tag></bind></authenticate>"))
        .await
        .unwrap();
    let success = client.read_until("</success>").await.unwrap();
    assert!(success.contains("<bound"), "{success}");
    client.read_until("</stream:features>").await.unwrap();
    for number in 0..3 {
        echo(&mut client, number).await;
    }
    client.send("</stream:stream>").await.unwrap();
    client.read_to_end().await.unwrap();
    chain.assert_faithful();
}

/// E-14: clients that reconnect in a loop: after a burst new sessions come at the set pace, and who would have to
/// wait too long is told so at once. The manager sees no more than the pace.
#[tokio::test]
async fn e14_reconnecting_in_a_loop() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.limits.max_streams = 20;
        config.limits.session_rate = 1;
    })
    .await;
    let begun = tokio::time::Instant::now();
    let mut refused = 0;
    // Twenty at once are let through.
    for _ in 0..20 {
        assert!(attempt(&chain).await.contains("<stream:features>"));
    }
    let mut looping = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let addr = chain.addr();
        looping.spawn(async move {
            let mut client = Raw::connect(addr).await.unwrap();
            client.send(header(" version='1.0'")).await.unwrap();
            let answer = client.read_until("</stream:").await.unwrap();
            drop(client);
            answer
        });
    }
    while let Some(answer) = looping.join_next().await {
        let answer = answer.unwrap();
        if answer.contains("<stream:error>") {
            refused += 1;
            assert!(answer.contains("<resource-constraint"), "{answer}");
            assert!(answer.contains("limits.session_rate"), "{answer}");
        }
    }
    assert!(refused >= 7, "{refused} of 10");
    let creations = chain
        .cm
        .posts()
        .iter()
        .filter(|post| post.body.contains(" ver='"))
        .count();
    let allowed = 21 + begun.elapsed().as_secs() + 1;
    assert!(creations as u64 <= allowed, "{creations} of {allowed}");
}

async fn attempt(chain: &Chain) -> String {
    let mut client = Raw::connect(chain.addr()).await.unwrap();
    client.send(header(" version='1.0'")).await.unwrap();
    let answer = client.read_until("</stream:features>").await.unwrap();
    client.send("</stream:stream>").await.unwrap();
    client.read_to_end().await.unwrap();
    answer
}

/// The manager is told of the end, too.
async fn no_session_is_left(chain: &Chain) {
    let left = async {
        while chain.cm.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left)
        .await
        .expect("a session is left");
}
