//! Sessions kept apart by a SOCKS5 proxy (P-20): Tor uses other circuits for every other user and password.

use secrecy::SecretString;

use super::TimeLimits;
use super::route::Route;
use crate::config::{Credentials, Proxy};

/// The user that Tor's socks-extensions.txt reserves for this: the password alone tells sessions apart.
const USERNAME: &str = "<torS0X>0";
/// A way through Tor is made of six machines: thrice the usual limits.
const SLOWER: u32 = 3;

/// New made-up credentials, if the settings ask for them; configured ones win.
pub(super) fn credentials(proxy: &Proxy) -> Option<Credentials> {
    if !proxy.isolate || proxy.credentials.is_some() {
        return None;
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Credentials {
        username: USERNAME.to_owned(),
        password: SecretString::from(password),
    })
}

/// Longer limits where the way leads through Tor.
pub(super) fn limits(limits: TimeLimits, route: &Route, host: &str) -> TimeLimits {
    let isolated = matches!(route, Route::Via(upstream) if upstream.isolated);
    let onion = host.to_ascii_lowercase().ends_with(".onion");
    if !isolated && !onion {
        return limits;
    }
    TimeLimits {
        connect: limits.connect,
        proxy: limits.proxy * SLOWER,
        tls: limits.tls * SLOWER,
    }
}
