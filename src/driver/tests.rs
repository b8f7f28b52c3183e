//! The sidecar with its inside in view.

use std::time::Duration;

use url::Url;
use xbosh_testkit::client::{Account, Client, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::xmpp::Server;

use super::Sidecar;
use super::watch::Change;
use crate::config::{Config, Domain, Proxy, ProxySource, Tls};

async fn chain() -> (Cm, Sidecar, Client) {
    let server = Server::new("localhost");
    server.add_user("user", "password");
    let cm = Cm::start(&server, Profile::prosody(), None).await;
    let mut config = Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        ..Config::default()
    };
    let domain = Domain {
        url: Some(Url::parse(&cm.url("127.0.0.1")).unwrap()),
        route: None,
        tls: Tls::default(),
        bosh: config.bosh.clone(),
        proxy: Proxy {
            source: ProxySource::None,
            ..Proxy::default()
        },
    };
    config.domains.insert("localhost".into(), domain);
    let sidecar = Sidecar::start(config).await.unwrap();
    let account = Account::new("user", "localhost", "password");
    let client = Client::login(sidecar.addrs()[0], &account, Mechanism::Plain)
        .await
        .unwrap();
    cm.poll_is_held().await;
    (cm, sidecar, client)
}

async fn posts_beyond(cm: &Cm, count: usize) -> Vec<xbosh_testkit::cm::Post> {
    loop {
        let posts = cm.posts();
        if posts.len() > count {
            return posts;
        }
        tokio::task::yield_now().await;
    }
}

/// The task of a client, which is mostly idle, has room for no more than its stream needs.
#[test]
fn an_idle_client_is_small() {
    fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }
    let task = size(super::connection::serve);
    assert!(task < 2 * 1024, "{task} bytes");
}

/// T-32: after a sleep the held poll goes out again at once, the same bytes on a new connection.
#[tokio::test]
async fn t32_sleep_renews_the_held_poll() {
    let (cm, sidecar, mut client) = chain().await;
    let before = cm.posts().len();
    let slept = Change::Slept(Duration::from_secs(20));
    sidecar.shared.borrow().watch.pretend(slept);
    let posts = posts_beyond(&cm, before).await;
    let (old, new) = (&posts[before - 1], &posts[before]);
    assert_eq!(old.body, new.body);
    assert_ne!(old.connection, new.connection);
    client.ping().await.unwrap();
    client.logout().await.unwrap();
}

/// T-32: a change of the network that leaves our address alone disturbs nothing.
#[tokio::test]
async fn t32_other_changes_disturb_nothing() {
    let (cm, sidecar, mut client) = chain().await;
    let before = cm.posts().len();
    sidecar.shared.borrow().watch.pretend(Change::Network);
    client.ping().await.unwrap();
    let posts = cm.posts();
    assert!(
        posts[before..]
            .iter()
            .all(|p| p.body != posts[before - 1].body)
    );
    client.logout().await.unwrap();
}
