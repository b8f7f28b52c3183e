//! What to change.

use super::{Report, Walk};
use crate::config::ProxySource;
use crate::connect::error::{NO_PROXY_THERE, UNSPOKEN, UNTRUSTED};
use crate::stream::error::FaultReason;

const PROXY_LINE: &str =
    "[proxy]\nurl = \"http://HOST:PORT\"    # or https://, socks5://, or \"none\" for no proxy";

/// Lines for the configuration.
pub(super) fn url_line(domain: &str, url: &str) -> String {
    format!("[domains.\"{domain}\"]\nurl = \"{url}\"")
}

/// `allowed_domains` with one more.
pub(super) fn allowed_line(allowed: &[String], domain: &str) -> String {
    let all = allowed.iter().map(String::as_str).chain([domain]);
    let all: Vec<String> = all.map(|domain| format!("\"{domain}\"")).collect();
    format!("allowed_domains = [{}]", all.join(", "))
}

/// What there is to do about a hop that failed.
pub(super) fn after_failure(report: &mut Report, walk: &Walk, failed: FaultReason) {
    let from_environment = matches!(
        walk.config.domain(&walk.domain).proxy.source,
        ProxySource::Env(_)
    );
    let said = |words: &str| report.hops.iter().any(|hop| hop.text.contains(words));
    let lines = match failed {
        FaultReason::ProxyAuth if said(UNSPOKEN) => {
            "[proxy]\nurl = \"http://127.0.0.1:3129\"    # where cntlm or px listens"
        }
        FaultReason::ProxyAuth => {
            "[proxy]\nusername = \"…\"\npassword_file = \"/path/of/a/file\"    # or password = \"…\" in a file of mode 0600"
        }
        FaultReason::ProxyUnreachable | FaultReason::ProxyProtocol => PROXY_LINE,
        FaultReason::ProxyRefused if said(NO_PROXY_THERE) => PROXY_LINE,
        FaultReason::TlsCertificate if said(UNTRUSTED) && said("proxy.ca_file") => {
            "[proxy]\nca_file = \"/path/of/the/authority.pem\"    # only if you trust who issued it"
        }
        // Another authority does not help against a wrong date or name.
        FaultReason::TlsCertificate if said(UNTRUSTED) => {
            "[tls]\nca_file = \"/path/of/the/authority.pem\"    # only if you trust who issued it"
        }
        FaultReason::CmUnreachable if from_environment => {
            "[proxy]\nurl = \"http://HOST:PORT\"    # if this network lets only a proxy out"
        }
        FaultReason::ProxyRefused => {
            let line = url_line(&walk.domain, "https://…");
            return report.advise(format!(
                "{line}    # an address that the proxy allows, mostly one on port 443"
            ));
        }
        FaultReason::DiscoveryFailed
        | FaultReason::NoBoshEndpoint
        | FaultReason::ProxyUpstream
        | FaultReason::CmUnreachable
        | FaultReason::Tls
        | FaultReason::NotBosh
        | FaultReason::UnexpectedRedirect
        | FaultReason::HttpUnauthorized
        | FaultReason::HttpNotFoundAtCreation
        | FaultReason::HttpRefused
        | FaultReason::BadCreationReply
        | FaultReason::CmHostUnknown
        | FaultReason::CmImproperAddressing => {
            return report.advise(url_line(&walk.domain, "https://…"));
        }
        _ => return,
    };
    report.advise(lines.to_owned());
}
