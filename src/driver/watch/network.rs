//! Notices that addresses or routes change: rtnetlink(7). Which ones does not matter, so nothing is parsed.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::sync::watch;

use super::{Happened, registered};

/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
/// One change of the network is many messages; those within this time are told as one.
const SETTLE: Duration = Duration::from_millis(300);
/// Most messages thrown away at once; more are the next change.
const MOST: usize = 1024;

/// Runs until the socket cannot be used, which it cannot at all in some sandboxes.
pub(super) async fn watch(told: &watch::Sender<Happened>) -> io::Result<Infallible> {
    let socket = registered(socket()?)?;
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|fd| take(fd.get_ref())) {
            Ok(message) => message?,
            Err(_would_block) => continue,
        }
        tokio::time::sleep(SETTLE).await;
        // An error that stays is met again above.
        let _ = (0..MOST).try_for_each(|_| take(socket.get_ref()));
        tracing::debug!("the network changed");
        told.send_modify(|happened| happened.network += 1);
    }
}

fn socket() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is 0.
        None,
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Throws one message away; `WouldBlock` if there is none.
fn take(socket: &OwnedFd) -> io::Result<()> {
    match retry_on_intr(|| recv(socket, &mut [0; 64], RecvFlags::empty())) {
        // Too many to keep are messages all the same.
        Ok(_) | Err(Errno::NOBUFS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
