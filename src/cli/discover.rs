//! `xbosh discover`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Ask, EXIT_FAILURE, fail, print, wait_for};
use crate::config::{DiscoverySettings, Loaded};
use crate::connect::Connector;
use crate::discover::{Answer, Discovery, Transport};

/// Whose addresses.
#[derive(Debug, Args)]
pub(super) struct DiscoverArgs {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Serialize)]
struct Address {
    transport: &'static str,
    url: String,
    source: String,
    /// Whether xbosh goes there.
    usable: bool,
}

/// Runs `xbosh discover`: one line an address.
pub(super) fn run(args: DiscoverArgs) -> ExitCode {
    let ask = args.ask;
    let (domain, loaded) = match ask.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Loaded { config, .. } = loaded;
    let settings = config.domain(&domain);
    let mut addresses = Vec::new();
    if let Some(url) = &settings.url {
        addresses.push(Address {
            transport: "bosh",
            url: url.to_string(),
            source: "configuration".into(),
            usable: true,
        });
    }
    let connector = match Connector::new(&settings.proxy, &settings.tls) {
        Ok(connector) => connector,
        Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
    };
    let settings = DiscoverySettings {
        host_meta: true,
        ..config.discovery
    };
    let discovery = Discovery::with_port(false, ask.web_port).asking(settings);
    match wait_for(discovery.ask(&connector, &domain)) {
        Ok(Ok(answer)) => addresses.extend(named(&answer)),
        // What is configured needs no host-meta.
        Ok(Err(_)) if !addresses.is_empty() => {}
        Ok(Err(error)) => return fail(EXIT_FAILURE, &error.to_string()),
        Err(code) => return code,
    }
    if ask.json {
        return match serde_json::to_string_pretty(&addresses) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => fail(
                EXIT_FAILURE,
                &format!("cannot write the addresses: {error}"),
            ),
        };
    }
    let lines: String = addresses
        .iter()
        .map(|address| {
            let Address {
                transport,
                url,
                source,
                usable,
            } = address;
            let unused = if *usable { "" } else { ", not used by xbosh" };
            format!("{transport:<10} {url}  ({source}{unused})\n")
        })
        .collect();
    print(&lines)
}

fn named(answer: &Answer) -> impl Iterator<Item = Address> {
    answer.links.iter().map(|link| Address {
        transport: match link.transport {
            Transport::Bosh => "bosh",
            Transport::WebSocket => "websocket",
        },
        // On one line, whatever stands there.
        url: link.href.chars().filter(|c| !c.is_control()).collect(),
        source: answer.source.to_string(),
        usable: link.usable().is_some(),
    })
}
