//! The first request through a proxy, and the server's session tickets (cm-quirks section 15).

use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::connect::patient::Patient;

const MS: Duration = Duration::from_millis(1);

/// A ticket, and what a record adds.
const TICKET: usize = 81 + 5;

/// A server with so many tickets, each in a record of its own.
fn giving(ours: &Authority, tickets: usize) -> TlsAcceptor {
    let mut config = (**ours.server_http1("127.0.0.1").config()).clone();
    config.send_tls13_tickets = tickets;
    config.max_fragment_size = Some(TICKET);
    TlsAcceptor::from(Arc::new(config))
}

/// Passes bytes on until either end is gone, but of the tickets only one, and the others once something comes behind
/// the handshake: as a proxy whose acknowledgements wait does it for a server with Nagle's algorithm on. Returns
/// behind how many of them each piece from the client came.
fn relay(mut client: DuplexStream, mut server: DuplexStream) -> JoinHandle<Vec<usize>> {
    tokio::spawn(async move {
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        let (mut pieces, mut passed, mut held) = (Vec::new(), 0, Vec::new());
        let (mut finished, mut open) = (false, false);
        loop {
            tokio::select! {
                biased;
                read = client.read(&mut up) => {
                    let Ok(length @ 1..) = read else { return pieces };
                    server.write_all(&up[..length]).await.unwrap();
                    if finished {
                        pieces.push(passed);
                        open = true;
                    }
                    // All that a client encrypts in a handshake is its last message.
                    finished |= records(&up[..length]).iter().any(|record| record[0] == 23);
                }
                read = server.read(&mut down) => {
                    let Ok(length @ 1..) = read else { return pieces };
                    if !finished {
                        client.write_all(&down[..length]).await.unwrap();
                        continue;
                    }
                    held.extend(records(&down[..length]));
                }
            }
            while (open || passed == 0) && !held.is_empty() {
                client.write_all(&held.remove(0)).await.unwrap();
                passed += 1;
            }
        }
    })
}

fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        found.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    found
}

/// The first request follows the first ticket, and its last part the second one, so that none of them waits for the
/// proxy to acknowledge it. Nobody waits long for one that does not come, nor at all for one that is far away.
#[tokio::test(start_paused = true)]
async fn the_first_request_lets_tickets_come_in() {
    let ours = Authority::new();
    let connector = Connector::new(&direct(), &ours.tls()).unwrap();
    let config = connector.shared.tls.clone().unwrap();
    let tls12 = acceptor(
        ours.sign("127.0.0.1", |_| {}),
        &[&rustls::version::TLS12],
        None,
    );
    let no = Duration::ZERO;
    for (server, took, rests, waits, pieces) in [
        (giving(&ours, 2), 8 * MS, no, no, &[1, 2][..]),
        (giving(&ours, 3), 8 * MS, no, no, &[1, 3]),
        (giving(&ours, 1), 8 * MS, no, 8 * MS, &[1, 1]),
        (giving(&ours, 1), MS, no, 5 * MS, &[1, 1]),
        (giving(&ours, 1), MS, 100 * MS, no, &[1]),
        (giving(&ours, 0), 8 * MS, no, 8 * MS, &[0]),
        // Its handshake ends otherwise, so that the first request is taken for that.
        (tls12, 8 * MS, no, no, &[]),
        (giving(&ours, 2), 21 * MS, no, no, &[0]),
    ] {
        let (inside, near) = duplex(1 << 16);
        let (far, outside) = duplex(1 << 16);
        let relayed = relay(near, far);
        let (config, limit) = (Arc::clone(&config), Duration::from_secs(5));
        // Tickets for the next one would make it another handshake.
        let mut config = (*config).clone();
        config.resumption = rustls::client::Resumption::in_memory_sessions(4);
        let config = Arc::new(config);
        let hand = tls::handshake(config, inside, "127.0.0.1", "it", Hop::Manager, limit);
        let (stream, server) = tokio::join!(hand, server.accept(outside));
        let (stream, mut server) = (stream.unwrap(), server.unwrap());
        let began = Instant::now();
        let mut patient = Patient::new(stream, took);
        patient.take_ticket().await.unwrap();
        if !rests.is_zero() {
            tokio::time::sleep(rests).await;
        }
        for request in [b"0123456789", b"abcdefghij"] {
            let mut heard = [0; 10];
            let asked = async {
                patient.write_all(request).await.unwrap();
                patient.flush().await.unwrap();
            };
            let (_, read) = tokio::join!(asked, server.read_exact(&mut heard));
            read.unwrap();
            assert_eq!(&heard, request);
        }
        assert_eq!(began.elapsed(), rests + waits, "{took:?} {pieces:?}");
        drop((patient, server));
        let seen = relayed.await.unwrap();
        assert_eq!(seen[..pieces.len()], *pieces, "{took:?}");
        assert_eq!(seen.len(), pieces.len() + 1, "{seen:?} the second is whole");
    }
}

/// E-41: what a server says behind the handshake against a client without a certificate is told at once.
#[tokio::test(start_paused = true)]
async fn e41_refused_behind_the_handshake() {
    let ours = Authority::new();
    let connector = Connector::new(&direct(), &ours.tls()).unwrap();
    let config = connector.shared.tls.clone().unwrap();
    let signed = ours.sign("127.0.0.1", |_| {});
    let server = acceptor(signed, rustls::ALL_VERSIONS, Some(&ours));
    let (inside, outside) = duplex(1 << 16);
    let limit = Duration::from_secs(5);
    let hand = tls::handshake(config, inside, "127.0.0.1", "it", Hop::Manager, limit);
    let (stream, server) = tokio::join!(hand, server.accept(outside));
    assert!(server.is_err());
    let refused = Patient::new(stream.unwrap(), MS).take_ticket().await;
    assert_eq!(
        tls::explain(&refused.unwrap_err(), "it", Hop::Manager).to_string(),
        "no secure connection to it: the server refused with alert CertificateRequired; check that this address and port speak TLS"
    );
}

/// Only through a proxy is anything waited for: what comes straight to us is acknowledged at once. There a server that
/// refuses us behind the handshake is heard in time, unless this machine is busy.
#[tokio::test]
async fn tickets_are_waited_for_through_proxies_only() {
    let ours = Authority::new();
    let server = acceptor(
        ours.sign("127.0.0.1", |_| {}),
        rustls::ALL_VERSIONS,
        Some(&ours),
    );
    let refused = async |proxied: bool| {
        let peer = Peer::new().await;
        let proxy = match proxied {
            true => via("http", peer.address()),
            false => direct(),
        };
        let connector = Connector::new(&proxy, &ours.tls()).unwrap();
        let url = secure(&peer);
        let served = async {
            let mut conn = Conn::new(peer.tcp().await);
            if proxied {
                conn.head().await;
                conn.send(b"HTTP/1.1 200 OK\r\n\r\n").await;
            }
            server.accept(conn.stream).await.map(|_| ())
        };
        let (connected, served) = tokio::join!(connector.connect(&url), served);
        assert!(served.is_err());
        connected.is_err()
    };
    assert!(!refused(false).await);
    let mut tries = 0;
    while !refused(true).await {
        tries += 1;
        assert!(tries < 200, "never heard in time");
    }
}
