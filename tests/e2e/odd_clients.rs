//! Clients of before XMPP 1.0, clients in a hurry, and clients that do not behave, through the whole chain.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};
use xbosh_testkit::client::raw::Raw;
use xbosh_testkit::client::{Client, Mechanism};
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

/// Connects, is told how to log in or that it may not, and leaves, until it is stopped: how often it came, how often it
/// was refused, and the longest that it waited for a refusal.
async fn reconnect(
    addr: std::net::SocketAddr,
    attributes: &'static str,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> (usize, usize, Duration) {
    let (mut came, mut refused, mut longest) = (0, 0, Duration::ZERO);
    while stop.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
        let began = tokio::time::Instant::now();
        let mut client = Raw::connect(addr).await.unwrap();
        client.send(header(attributes)).await.unwrap();
        let answer = client.read_until("</stream:").await.unwrap();
        came += 1;
        if answer.contains("<stream:error>") {
            refused += 1;
            longest = longest.max(began.elapsed());
            assert!(answer.contains("<resource-constraint"), "{answer}");
            assert!(answer.contains("limits.session_rate"), "{answer}");
        }
    }
    (came, refused, longest)
}

/// Logs in, is echoed and logs out, several times and for at least two seconds: how often, and the longest that took.
async fn visit(chain: &Chain) -> (usize, Duration) {
    let (began, mut longest) = (tokio::time::Instant::now(), Duration::ZERO);
    let mut visits = 0;
    while visits < 5 || began.elapsed() < Duration::from_secs(2) {
        let visit = tokio::time::Instant::now();
        let mut client = chain.login().await;
        super::support::echo(&mut client, 0..3).await;
        longest = longest.max(visit.elapsed());
        client.logout().await.unwrap();
        visits += 1;
    }
    (visits, longest)
}

fn creations(chain: &Chain) -> usize {
    let posts = chain.cm.posts();
    let creation = |post: &&xbosh_testkit::cm::Post| post.attribute("sid").is_none();
    posts.iter().filter(creation).count()
}

/// E-14, at the limits that are set by default: a client that reconnects in a loop gets few sessions, and its error at
/// once where it says who it is; one that behaves, and looks the same or not, is online as if it were alone.
#[tokio::test]
async fn e14_reconnecting_in_a_loop() {
    for (attributes, named) in [
        (" version='1.0' from='looper@localhost'", true),
        (" version='1.0'", false),
    ] {
        let chain = Chain::start(Profile::strict()).await;
        let began = tokio::time::Instant::now();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let looper = tokio::spawn(reconnect(chain.addr(), attributes, stopped));
        let (visits, longest) = visit(&chain).await;
        stop.send(()).unwrap();
        let (came, refused, refusal) = looper.await.unwrap();
        assert!(longest < Duration::from_millis(1500), "{longest:?} {came}");
        if named {
            assert!(refused > 20 && refused + 25 > came, "{refused} of {came}");
            assert!(refusal < Duration::from_millis(500), "{refusal:?}");
        } else {
            // Ten at once, and five a second.
            let most = 15 + 5 * (1 + began.elapsed().as_secs() as usize);
            assert!(came > 12 && came <= most, "{came} of {most}");
        }
        assert!(creations(&chain) <= came - refused + visits + 1);
        chain.assert_faithful();
    }
}

/// A hundred that start at once, at the limits that are set by default, are all online soon; a looper makes no
/// difference.
#[tokio::test]
async fn e14_a_hundred_at_once() {
    let chain = Chain::start(Profile::prosody()).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let looper = tokio::spawn(reconnect(chain.addr(), " version='1.0'", stopped));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let addr = chain.addr();
        clients.spawn(async move {
            let account = super::support::account("user");
            Client::login(addr, &account, Mechanism::Plain).await
        });
    }
    let mut online = Vec::new();
    while let Some(client) = clients.join_next().await {
        online.push(client.unwrap().unwrap());
    }
    assert_eq!(chain.server.online().len(), 100);
    stop.send(()).unwrap();
    looper.await.unwrap();
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
