//! What a bridge is told of the configuration.

use std::sync::Arc;

use super::super::client::Peer;
use super::{Shared, random};
use crate::bridge;
use crate::config::{ChannelBinding, Config, LocalTlsMode, PlainWithoutTls, StreamManagementMode};
use crate::local_tls::LocalTls;
use crate::{stream, xml};

pub(super) fn bridge_options(shared: &Shared, peer: &Peer) -> bridge::Options {
    let config = &shared.config;
    let limits = &config.limits;
    bridge::Options {
        rules: stream::header::HeaderRules {
            default_domain: config.default_domain.clone(),
            allowed_domains: config.allowed_domains.clone().unwrap_or_default(),
        },
        limits: element_limits(config),
        filter: features_filter(config),
        buffer_bytes: limits.buffer_bytes,
        header_timeout: limits.header_timeout,
        setup_timeout: limits.setup_timeout,
        default_lang: config.bosh.lang.clone(),
        mode: match config.stream_management.mode {
            StreamManagementMode::Local => bridge::Mode::Local {
                resume_window: config.stream_management.resume_window,
            },
            StreamManagementMode::Pass => bridge::Mode::Pass,
            StreamManagementMode::Off => bridge::Mode::Off,
        },
        tls: tls_options(config, shared.local_tls.clone(), peer),
        random: Box::new(random),
    }
}

/// Bounds on XML from either side.
pub(crate) fn element_limits(config: &Config) -> xml::Limits {
    let limits = &config.limits;
    xml::Limits {
        max_element_bytes: limits.max_stanza_bytes,
        max_header_bytes: 16 * 1024,
        max_depth: limits.max_depth,
        max_attributes: limits.max_attributes,
    }
}

/// What is taken out of a server's features.
pub(crate) fn features_filter(config: &Config) -> stream::features::Filter {
    stream::features::Filter {
        channel_binding: match config.features.channel_binding {
            ChannelBinding::Filter => stream::features::ChannelBinding::Filter,
            ChannelBinding::Pass => stream::features::ChannelBinding::Pass,
        },
        remove_sm: config.stream_management.mode != StreamManagementMode::Pass,
        // The bridge hides it where there is no TLS.
        hide_plain: false,
        max_stanza_bytes: config.limits.max_stanza_bytes,
    }
}

fn tls_options(
    config: &Config,
    local_tls: Option<Arc<LocalTls>>,
    peer: &Peer,
) -> bridge::TlsOptions {
    bridge::TlsOptions {
        served: local_tls.is_some(),
        // S-01: what another machine sends is not for everybody on the way.
        required: config.local_tls == LocalTlsMode::Required || !peer.is_loopback(),
        advertised: Box::new(move |domain| {
            let tls = local_tls.as_ref();
            tls.is_some_and(|tls| tls.is_advertised(domain))
        }),
        hide_plain: config.features.plain_without_tls == PlainWithoutTls::Hide,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-01, S-37: who needs TLS, and who is served it, in each mode.
    #[test]
    fn s01_who_needs_tls() {
        let folder = tempfile::tempdir().unwrap();
        let near = Peer::Tcp(([127, 0, 0, 1], 1).into());
        let far = Peer::Tcp(([192, 0, 2, 1], 1).into());
        for (mode, near_needs, advertised) in [
            (LocalTlsMode::Off, false, false),
            (LocalTlsMode::Auto, false, false),
            (LocalTlsMode::Optional, false, true),
            (LocalTlsMode::Required, true, true),
        ] {
            let config = Config {
                local_tls: mode,
                ..Config::default()
            };
            let tls = (mode != LocalTlsMode::Off)
                .then(|| Arc::new(LocalTls::new(&config, folder.path().join("ca"))));
            for (peer, required) in [(&near, near_needs), (&far, true)] {
                let options = tls_options(&config, tls.clone(), peer);
                assert_eq!(options.required, required, "{mode:?} {peer}");
                assert_eq!(options.served, mode != LocalTlsMode::Off);
                assert_eq!((options.advertised)("example.org"), advertised);
                assert!(!options.hide_plain);
            }
        }
    }
}
