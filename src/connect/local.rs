//! This machine's own address on a connection, and whether it still has it.

use std::io;
use std::net::{IpAddr, UdpSocket};

use tokio::net::TcpStream;

/// The local address of a connection.
pub(super) fn of(stream: &TcpStream) -> Option<IpAddr> {
    Some(stream.local_addr().ok()?.ip())
}

/// Whether this machine no longer has an address, so that a connection from it can only time out. In doubt it
/// has it; loopback is never gone. Nothing is sent.
pub(crate) fn address_is_gone(local: IpAddr) -> bool {
    let local = local.to_canonical();
    !local.is_loopback()
        && UdpSocket::bind((local, 0))
            .is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// T-32: only what certainly is no address of this machine counts as gone.
    #[test]
    fn t32_addresses_that_are_gone() {
        let documentation = Ipv4Addr::new(203, 0, 113, 7);
        for (address, gone) in [
            (IpAddr::from(Ipv4Addr::LOCALHOST), false),
            (Ipv4Addr::new(127, 200, 1, 1).into(), false),
            (Ipv6Addr::LOCALHOST.into(), false),
            (Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), false),
            (Ipv4Addr::UNSPECIFIED.into(), false),
            (documentation.into(), true),
            (documentation.to_ipv6_mapped().into(), true),
        ] {
            assert_eq!(address_is_gone(address), gone, "{address}");
        }
    }
}
