//! `config.toml` at the top of the repository, against what is built in.

use std::fs;

use xbosh::config::Config;

use crate::support::{Folder, config};

fn annotated() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml")).unwrap()
}

/// The file with every commented key and table in force.
fn uncommented() -> String {
    annotated()
        .lines()
        .map(|line| {
            let inside = line.strip_prefix("# ").unwrap_or(line);
            let key = inside.split_once(" = ").map(|(key, _)| key);
            let is_key =
                key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            if is_key || inside.starts_with("[domains") {
                inside
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_annotated_file_parses_to_exactly_the_defaults() {
    let loaded = config(&annotated());
    // Secrets do not compare, and there is none in here.
    assert_eq!(format!("{loaded:#?}"), format!("{:#?}", Config::default()));
    assert_eq!(
        format!("{:#?}", config("")),
        format!("{:#?}", Config::default())
    );
}

/// The defaults that other programs and the documentation rely on.
#[test]
fn the_defaults_are_the_documented_ones() {
    insta::assert_snapshot!(format!("{:?}", Config::default()), @r#"Config { listen: [Tcp(127.0.0.1:5222)], allow_remote_clients: false, default_domain: None, allowed_domains: None, proxy: Proxy { source: Env(ProxyEnv { https: false, http: false, all: false, no_proxy: None }), credentials: None, no_proxy: [], ca_file: None, isolate: false, preemptive: true }, tls: Tls { ca_file: None, client_cert: None, client_key: None, same_certificate: false }, bosh: Bosh { wait: 55s, hold: 1, ver: "1.6", max_body_bytes: 65536, lang: "en", key_sequence: false, http_version: Auto }, features: Features { channel_binding: Filter, plain_without_tls: Offer }, local_tls: Auto, discovery: DiscoverySettings { host_meta: true, dns_txt: false, cache: true }, stream_management: StreamManagement { mode: Local, resume_window: 60s }, limits: Limits { max_streams: 1024, session_rate: 50, max_stanza_bytes: 1048576, max_depth: 128, max_attributes: 256, max_response_bytes: 16777216, buffer_bytes: 4194304, header_timeout: 30s, setup_timeout: 60s }, log: Log { level: "info", format: Auto }, status: Status { socket: None, metrics: None }, domains: {} }"#);
}

#[test]
fn what_the_annotated_file_comments_out_is_valid_too() {
    let mut text = uncommented();
    for key in ["password", "password_command"] {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .map(str::to_owned);
        text = text.replace(&line.unwrap(), "");
    }
    let folder = Folder::new(&text.replace("/path/to/", ""));
    folder.write("file", "hunter2\n", 0o600);
    let loaded = folder.load(&[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.domains.len(), 1);
}

/// Every key that exists stands in the annotated file, and no other.
#[test]
fn the_annotated_file_has_every_key() {
    let text = uncommented();
    let mut table = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.split(']').next().unwrap().to_owned() + ".";
            table = table.replace("\"example.org\"", "D");
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            found.push(format!("{table}{key}"));
        }
    }
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count, "a key stands twice");
    insta::assert_snapshot!(found.join("\n"), @r"
    allow_remote_clients
    allowed_domains
    bosh.hold
    bosh.http_version
    bosh.key_sequence
    bosh.lang
    bosh.max_body_bytes
    bosh.ver
    bosh.wait
    default_domain
    discovery.cache
    discovery.dns_txt
    discovery.host_meta
    domains.D.allow_plain_http
    domains.D.ca_file
    domains.D.proxy.url
    domains.D.route
    domains.D.url
    domains.D.wait
    features.channel_binding
    features.plain_without_tls
    limits.buffer_bytes
    limits.header_timeout
    limits.max_attributes
    limits.max_depth
    limits.max_response_bytes
    limits.max_stanza_bytes
    limits.max_streams
    limits.session_rate
    limits.setup_timeout
    listen
    local_tls.mode
    log.format
    log.level
    proxy.ca_file
    proxy.isolate
    proxy.no_proxy
    proxy.password
    proxy.password_command
    proxy.password_file
    proxy.preemptive
    proxy.url
    proxy.username
    status.metrics
    status.socket
    stream_management.mode
    stream_management.resume_window
    tls.ca_file
    tls.client_cert
    tls.client_key
    tls.same_certificate
    ");
}
