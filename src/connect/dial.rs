//! One TCP connection: address order, options, time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Connects to a host by name or address; every address is tried within the limit, families in turn, since
/// one of them often leads nowhere.
///
/// # Errors
/// The last address's error, or `TimedOut`.
pub(super) async fn dial(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            let found = timeout_at(deadline, lookup_host((host, port)))
                .await
                .map_err(|_| timed_out())?;
            interleave(
                found
                    .map_err(|_| {
                        io::Error::new(io::ErrorKind::NotFound, "its name does not resolve")
                    })?
                    .collect(),
            )
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name does not resolve");
    let count = addresses.len();
    for (index, address) in addresses.into_iter().enumerate() {
        // Each address gets an equal share of what is left, so that a dead one does not eat it all.
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(count - index).unwrap_or(1);
        match timeout_at(Instant::now() + share, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = timed_out(),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A stanza is small and must not wait for company (T-36).
    socket.set_nodelay(true)?;
    // A peer that vanished while a poll is held is noticed by the kernel too.
    socket.set_keepalive(true)?;
    socket.connect(address).await
}

/// One address of each family in turn, beginning with the resolver's first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|a| a.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut out: Vec<SocketAddr> = first
        .into_iter()
        .flat_map(|a| [Some(a), second.next()])
        .flatten()
        .collect();
    out.extend(second);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |list: &str| {
            list.split(' ')
                .map(|a| a.parse().unwrap())
                .collect::<Vec<SocketAddr>>()
        };
        assert_eq!(
            interleave(parse("[::1]:1 [::2]:1 1.1.1.1:1 1.1.1.2:1 1.1.1.3:1")),
            parse("[::1]:1 1.1.1.1:1 [::2]:1 1.1.1.2:1 1.1.1.3:1")
        );
    }

    /// T-36: a small write leaves at once.
    #[tokio::test]
    async fn t36_nothing_waits_in_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_secs(5);
        assert!(
            dial("127.0.0.1", port, limit)
                .await
                .unwrap()
                .nodelay()
                .unwrap()
        );
    }

    #[tokio::test]
    async fn refused_and_unknown() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let error = dial("127.0.0.1", free, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
