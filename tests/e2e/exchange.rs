//! Good weather: every manager's ways, HTTP framings, cookies, wire details.

use std::time::Duration;

use xbosh_testkit::client::{Client, Mechanism};
use xbosh_testkit::cm::{Fault, Profile, Rule, When};

use super::support::{Chain, DOMAIN, account, echo};

async fn whole_session(profile: Profile) {
    let chain = Chain::start(profile).await;
    for mechanism in [Mechanism::Plain, Mechanism::Scram] {
        let mut client = Client::login(chain.addr(), &account("user"), mechanism)
            .await
            .unwrap();
        client.roster().await.unwrap();
        client.ping().await.unwrap();
        client.available(None).await.unwrap();
        echo(&mut client, 0..200).await;
        client.logout().await.unwrap();
        assert_eq!(
            chain.server.online(),
            Vec::<String>::new(),
            "B-61: the session was ended"
        );
    }
    chain.assert_faithful();
}

/// B-01 to B-45 against a manager by the letter.
#[tokio::test]
async fn strict_manager() {
    whole_session(Profile::strict()).await;
}

/// features with any request after success; B-23: the sid in every reply.
#[tokio::test]
async fn prosodys_ways() {
    whole_session(Profile::prosody()).await;
}

/// cm-quirks section 6.
#[tokio::test]
async fn ejabberds_ways() {
    whole_session(Profile::ejabberd()).await;
}

/// B-27: no version, stanzas without namespace, no authid, empty HTTP bodies at the end.
#[tokio::test]
async fn mongooseims_ways() {
    whole_session(Profile::mongooseim()).await;
}

/// cm-quirks section 8.
#[tokio::test]
async fn openfires_ways() {
    whole_session(Profile::openfire()).await;
}

/// features that come later.
#[tokio::test]
async fn tigases_ways() {
    whole_session(Profile::tigase()).await;
}

/// X-10, B-69: late features, a stream name on the creation reply.
#[tokio::test]
async fn node_xmpp_boshs_ways() {
    whole_session(Profile::node_xmpp_bosh()).await;
}

/// B-02, B-06: replies chunked, HTTP/1.0, with an interim reply, on connections that close.
#[tokio::test]
async fn b02_reply_framings() {
    for fault in [
        Fault::Chunked,
        Fault::Http10,
        Fault::Interim,
        Fault::Close,
        Fault::CloseSilently,
    ] {
        let chain = Chain::start(Profile::strict()).await;
        chain
            .cm
            .script(Rule::times(When::Always, usize::MAX, fault));
        let mut client = chain.login().await;
        echo(&mut client, 0..100).await;
        client.logout().await.unwrap();
        chain.assert_faithful();
    }
}

/// B-09: a balancer's cookie comes back on every request of its session, and of no other.
#[tokio::test]
async fn b09_cookies_belong_to_the_session() {
    let chain = Chain::start(Profile::strict()).await;
    chain.cm.demand_cookie();
    let mut client = chain.login().await;
    echo(&mut client, 0..20).await;
    client.logout().await.unwrap();
    for post in chain.cm.posts() {
        assert_eq!(
            post.header("cookie").is_some(),
            post.attribute("sid").is_some()
        );
    }
}

/// B-03, B-07, B-08: what every request says about itself.
#[tokio::test]
async fn b03_request_headers() {
    let chain = Chain::start(Profile::strict()).await;
    let client = chain.login().await;
    client.logout().await.unwrap();
    for post in chain.cm.posts() {
        assert_eq!(post.line, "POST /http-bind HTTP/1.1");
        assert_eq!(post.header("content-type"), Some("text/xml; charset=utf-8"));
        assert_eq!(post.header("cache-control"), Some("no-store"));
        assert_eq!(
            post.header("host"),
            Some(format!("127.0.0.1:{}", chain.cm.addr().port()).as_str())
        );
        for absent in [
            "expect",
            "transfer-encoding",
            "connection",
            "proxy-connection",
            "authorization",
        ] {
            assert_eq!(post.header(absent), None, "{absent}");
        }
    }
}

/// B-33: rids without gaps; P-11: two connections are enough for a session.
#[tokio::test]
async fn b33_rids_and_connections() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = chain.login().await;
    echo(&mut client, 0..500).await;
    client.logout().await.unwrap();
    let rids: Vec<u64> = chain
        .cm
        .posts()
        .iter()
        .map(|p| p.attribute("rid").unwrap().parse().unwrap())
        .collect();
    assert!(
        rids.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{rids:?}"
    );
    assert!(
        chain.cm.connections() <= 3,
        "{} connections",
        chain.cm.connections()
    );
}

/// T-37: a second connection is open before it is needed, and again after both were lost: what a client says first
/// does not wait for one, and is not overtaken.
#[tokio::test]
async fn t37_a_second_connection_is_ready() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = chain.login().await;
    connections(&chain, 2).await;
    chain.cm.poll_is_held().await;
    let poll = chain.cm.posts().pop().unwrap();
    client.ping().await.unwrap();
    let posts = chain.cm.posts();
    let ping = posts
        .iter()
        .rev()
        .find(|post| post.body.contains("urn:xmpp:ping"));
    assert_ne!(ping.unwrap().connection, poll.connection);
    assert_eq!(chain.cm.connections(), 2);

    chain.cm.poll_is_held().await;
    chain.cm.cut().await;
    connections(&chain, 4).await;
    client.ping().await.unwrap();
}

/// T-37: that costs nothing while nobody says anything: a poll that ends opens no connection.
#[tokio::test]
async fn t37_quiet_sessions_open_no_more() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        for domain in config.domains.values_mut() {
            domain.bosh.wait = Duration::from_secs(1);
        }
    })
    .await;
    let _client = chain.login().await;
    connections(&chain, 2).await;
    let before = chain.cm.posts().len();
    chain.cm.until(|posts| posts.len() > before + 4).await;
    assert_eq!(chain.cm.connections(), 2);
}

/// T-37: where each answer ends its connection, none is opened that no request will use.
#[tokio::test]
async fn t37_closing_managers_see_no_more_connections() {
    for fault in [Fault::Close, Fault::CloseSilently, Fault::Http10] {
        let told = format!("{fault:?}");
        let chain = Chain::start(Profile::strict()).await;
        chain.cm.script(Rule::always(When::Always, fault));
        let mut client = chain.login().await;
        for _ in 0..30 {
            client.ping().await.unwrap();
        }
        client.logout().await.unwrap();
        let (posts, connections) = (chain.cm.posts().len() as u64, chain.cm.connections());
        assert!(
            connections <= posts + 1,
            "{told}: {connections} for {posts} requests"
        );
        chain.assert_faithful();
    }
}

/// Waits for so many connections since the start.
async fn connections(chain: &Chain, count: u64) {
    let open = async {
        while chain.cm.connections() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), open)
        .await
        .unwrap_or_else(|_| panic!("{} of {count} connections", chain.cm.connections()));
}

/// S-06: each stream has an id of its own, before and after the login, with many random bits.
#[tokio::test]
async fn s06_ids_differ() {
    let chain = Chain::start(Profile::mongooseim()).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..4 {
        let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
        let mut note = |header: &str| {
            let id = header
                .split(" id='")
                .nth(1)
                .and_then(|rest| rest.split('\'').next());
            let id = id.unwrap_or_default().to_owned();
            assert!(
                id.len() >= 32 && id.chars().all(|c| c.is_ascii_hexdigit()),
                "{header}"
            );
            ids.insert(id);
        };
        client.open().await.unwrap();
        note(client.header());
        client
            .authenticate(&account("user"), Mechanism::Plain)
            .await
            .unwrap();
        client.open().await.unwrap();
        note(client.header());
        client.logout().await.unwrap();
    }
    assert_eq!(ids.len(), 8);
}

/// P-11: sessions share no connection.
#[tokio::test]
async fn p11_sessions_have_connections_of_their_own() {
    let chain = Chain::start(Profile::strict()).await;
    let mut first = chain.login().await;
    let mut second = Client::login(chain.addr(), &account("other"), Mechanism::Plain)
        .await
        .unwrap();
    echo(&mut first, 0..20).await;
    echo(&mut second, 0..20).await;
    let mut owner = std::collections::HashMap::new();
    for post in chain.cm.posts() {
        if let Some(sid) = post.attribute("sid") {
            assert_eq!(
                owner.entry(post.connection).or_insert_with(|| sid.clone()),
                &sid
            );
        }
    }
    assert_eq!(chain.server.online().len(), 2);
}

/// The server's own presence of a conflict reaches the older client as its stream error (C-10, X-18).
#[tokio::test]
async fn x18_conflict() {
    let chain = Chain::start(Profile::strict()).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
        client.open().await.unwrap();
        client
            .authenticate(&account("user"), Mechanism::Plain)
            .await
            .unwrap();
        client.open().await.unwrap();
        client.bind(Some("same")).await.unwrap();
        chain.cm.poll_is_held().await;
        clients.push(client);
    }
    let error = loop {
        match clients[0].next_stanza().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(format!("{error:?}").contains("conflict"), "{error:?}");
    clients[1].ping().await.unwrap();
}
