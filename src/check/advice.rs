//! What to change.

use super::{Report, Walk};
use crate::bosh::FailureKind;
use crate::connect::error::UNSPOKEN;

/// Lines for the configuration.
pub(super) fn url_line(domain: &str, url: &str) -> String {
    format!("[domains.\"{domain}\"]\nurl = \"{url}\"")
}

/// What there is to do about a hop that failed.
pub(super) fn after_failure(report: &mut Report, walk: &Walk, failed: Option<FailureKind>) {
    let Some(failed) = failed else {
        report.advise(url_line(&walk.domain, "https://…"));
        return;
    };
    let lines = match failed {
        FailureKind::ProxyAuth if report.hops.iter().any(|hop| hop.text.contains(UNSPOKEN)) => {
            "[proxy]\nurl = \"http://127.0.0.1:3129\"    # where cntlm or px listens"
        }
        FailureKind::ProxyAuth => {
            "[proxy]\nusername = \"…\"\npassword_file = \"/path/of/a/file\"    # or password = \"…\" in a file of mode 0600"
        }
        FailureKind::ProxyUnreachable | FailureKind::ProxyProtocol => {
            "[proxy]\nurl = \"http://HOST:PORT\"    # or https://, socks5://, or \"none\" for no proxy"
        }
        FailureKind::TlsCertificate => {
            "[tls]\nca_file = \"/path/of/the/authority.pem\"    # only if you trust who issued it"
        }
        FailureKind::CmUnreachable
            if matches!(
                walk.config.domain(&walk.domain).proxy.source,
                crate::config::ProxySource::Env(_)
            ) =>
        {
            "[proxy]\nurl = \"http://HOST:PORT\"    # if this network lets only a proxy out"
        }
        _ => return,
    };
    report.advise(lines.to_owned());
}
