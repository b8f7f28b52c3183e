//! Proxies that cut, repeat and forget requests of their own accord.

use std::time::Duration;

use url::Url;
use xbosh::config::{Proxy, ProxySource};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Client, Mechanism};
use xbosh_testkit::cm::{Cm, Post, Profile};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};

use super::support::{account, config, echo, server};

async fn behind(profile: Profile, trick: HttpTrick) -> (Cm, HttpProxy, Sidecar) {
    let cm = Cm::start(&server(), profile, None).await;
    let proxy = HttpProxy::start(ProxyOptions::default(), trick).await;
    let way = Proxy {
        source: ProxySource::Url(Url::parse(&format!("http://{}", proxy.addr())).unwrap()),
        ..Proxy::default()
    };
    let sidecar = Sidecar::start(config(&cm.url("127.0.0.1"), way))
        .await
        .unwrap();
    (cm, proxy, sidecar)
}

async fn login(sidecar: &Sidecar) -> Client {
    Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
        .await
        .unwrap()
}

/// Sixty messages to an echo and back, through a proxy that sends every POST twice.
async fn echo_through_repeats(profile: Profile) {
    let profile = Profile {
        strict_window: false,
        ..profile
    };
    let (_cm, _proxy, sidecar) = behind(profile, HttpTrick::Duplicates).await;
    let mut client = login(&sidecar).await;
    client.set_deadline(Duration::from_secs(60));
    for round in 0..6 {
        echo(&mut client, round * 10..round * 10 + 10).await;
    }
    client.logout().await.unwrap();
}

/// P-10, B-52: a proxy that sends every POST twice: the manager sees repeats, and answers the one we wait for
/// with an error or nothing. Nothing is lost, doubled or reordered. Openfire is left out: it stores no answer to
/// a restart, so a doubled one ends the session there whatever a client does; and MongooseIM, which must not be asked
/// again for an answer that the proxy threw away.
#[tokio::test]
async fn p10_a_proxy_that_repeats_posts() {
    echo_through_repeats(Profile::ejabberd()).await;
    echo_through_repeats(Profile::prosody()).await;
}

/// T-10, T-11, B-15: a proxy that cuts long polls: the client notices nothing, and the next session asks for a
/// shorter wait, though not below 10 s.
#[tokio::test]
async fn t11_a_proxy_that_cuts_long_polls() {
    let (cm, _proxy, sidecar) = behind(
        Profile::prosody(),
        HttpTrick::CutsAfter(Duration::from_millis(5500)),
    )
    .await;
    let mut client = login(&sidecar).await;
    client.set_deadline(Duration::from_secs(60));
    // Two cuts show the habit: a rid each that came twice, three times in all.
    let again = |posts: &[Post]| {
        let rids: Vec<_> = posts.iter().filter_map(|p| p.attribute("rid")).collect();
        let twice = |rid: &&String| rids.iter().filter(|other| other == rid).count() > 1;
        rids.iter().filter(twice).count()
    };
    cm.until(|posts| again(posts) >= 3).await;
    echo(&mut client, 0..20).await;
    client.logout().await.unwrap();
    let client = login(&sidecar).await;
    client.logout().await.unwrap();
    let waits: Vec<_> = cm
        .posts()
        .iter()
        .filter_map(|p| p.attribute("wait"))
        .collect();
    assert_eq!(waits, ["55", "10"]);
}
