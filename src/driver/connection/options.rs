//! What a bridge is told of the configuration.

use super::super::client::Peer;
use super::{Shared, random};
use crate::bridge;
use crate::config::{ChannelBinding, LocalTlsMode, PlainWithoutTls, StreamManagementMode};
use crate::{stream, xml};

pub(super) fn bridge_options(shared: &Shared, peer: &Peer) -> bridge::Options {
    let config = &shared.config;
    let limits = &config.limits;
    bridge::Options {
        rules: stream::header::HeaderRules {
            default_domain: config.default_domain.clone(),
            allowed_domains: config.allowed_domains.clone().unwrap_or_default(),
        },
        limits: xml::Limits {
            max_element_bytes: limits.max_stanza_bytes,
            max_header_bytes: 16 * 1024,
            max_depth: limits.max_depth,
            max_attributes: limits.max_attributes,
        },
        filter: stream::features::Filter {
            channel_binding: match config.features.channel_binding {
                ChannelBinding::Filter => stream::features::ChannelBinding::Filter,
                ChannelBinding::Pass => stream::features::ChannelBinding::Pass,
            },
            remove_sm: config.stream_management.mode != StreamManagementMode::Pass,
            // The bridge hides it where there is no TLS.
            hide_plain: false,
            max_stanza_bytes: limits.max_stanza_bytes,
        },
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
        tls: tls_options(shared, peer),
        random: Box::new(random),
    }
}

fn tls_options(shared: &Shared, peer: &Peer) -> bridge::TlsOptions {
    let local_tls = shared.local_tls.clone();
    bridge::TlsOptions {
        served: local_tls.is_some(),
        // S-01: what another machine sends is not for everybody on the way.
        required: shared.config.local_tls == LocalTlsMode::Required || !peer.is_loopback(),
        advertised: Box::new(move |domain| {
            local_tls
                .as_ref()
                .is_some_and(|tls| tls.is_advertised(domain))
        }),
        hide_plain: shared.config.features.plain_without_tls == PlainWithoutTls::Hide,
    }
}
