//! What a sleep or a change of the network does to connections.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Reads a SOCKS5 login and request, and lets it pass.
async fn socks(conn: &mut Conn) {
    for (length, reply) in [
        (4, &[5, 2][..]),
        (13, &[1, 0]),
        (17, &[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]),
    ] {
        let mut buffer = vec![0; length];
        conn.stream.read_exact(&mut buffer).await.unwrap();
        conn.send(reply).await;
    }
}

/// T-32: after a sleep no idle connection is kept; without one the answer is the same, for exchanges may be
/// waiting for their connection.
#[tokio::test]
async fn t32_after_a_sleep() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    assert!(client.renew(true));
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(client.renew(true));
    assert!(kept.closed().await);
    let (result, _conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
}

/// T-32: a change of the network that leaves the address leaves the connections from it.
#[tokio::test]
async fn t32_an_address_that_stays() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    assert!(!client.renew(false));
    let reply = counted("x");
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(!client.renew(false));
    let served = async {
        kept.request().await;
        assert!(!client.renew(false));
        kept.send(&reply).await;
    };
    assert!(tokio::join!(client.exchange(ask()), served).0.is_ok());
    assert!(!client.renew(false));
    let served = async {
        kept.request().await;
        kept.send(&reply).await;
    };
    assert!(tokio::join!(client.exchange(ask()), served).0.is_ok());
}

/// T-32: of an address that is gone, idle connections are closed at once; a busy one is told of, may still
/// end well, and carries nothing more.
#[tokio::test]
async fn t32_an_address_that_is_gone() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let poll = tokio::spawn(client.exchange(ask()));
    let mut busy = peer.accept().await;
    busy.request().await;
    let (_, mut idle) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let other = IpAddr::from(Ipv4Addr::new(203, 0, 113, 7));
    assert!(!client.pool.renew(|local| local == Some(other)));
    assert!(client.pool.renew(|local| local == Some(HERE)));
    assert!(idle.closed().await);
    assert!(
        client.pool.renew(|local| local == Some(HERE)),
        "the busy one"
    );
    busy.send(&reply).await;
    assert!(poll.await.unwrap().is_ok());
    assert!(
        !client.pool.renew(|local| local == Some(HERE)),
        "none is left"
    );
    assert!(busy.closed().await);
}

/// T-32: through a proxy the address that counts is the one towards the proxy; a connection that is being
/// opened goes the way of the others, and not without them.
#[tokio::test]
async fn t32_through_a_proxy() {
    let proxy = Peer::new().await;
    let url = Url::parse("http://cm.invalid:5280/http-bind").unwrap();
    let client = client(url, &via("socks5", proxy.address()));
    let poll = tokio::spawn(client.exchange(ask()));
    let mut busy = proxy.accept().await;
    socks(&mut busy).await;
    busy.request().await;
    client.warm();
    let mut warming = proxy.accept().await;
    let mut greeting = [0; 4];
    warming.stream.read_exact(&mut greeting).await.unwrap();
    assert!(!client.pool.renew(|local| local != Some(HERE)));
    warming.send(&[5, 2]).await;
    let mut login = [0; 13];
    warming.stream.read_exact(&mut login).await.unwrap();
    assert!(client.pool.renew(|local| local == Some(HERE)));
    // Long before the proxy's time is up.
    let closed = tokio::time::timeout(Duration::from_secs(5), warming.closed());
    assert_eq!(closed.await, Ok(true));
    poll.abort();
}
