//! Keys, types, ranges and domains of the file.

use std::time::Duration;

use insta::assert_snapshot;

use super::super::HttpVersion;
use super::super::draft::{DOMAIN_KEYS, KEYS};
use super::*;

const DEFAULT_FILE: &str = include_str!("../../../config.toml");

#[test]
fn the_annotated_file_is_exactly_the_defaults() {
    let from_file = config(DEFAULT_FILE);
    assert_eq!(format!("{from_file:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_annotated_file_names_every_key() {
    let (outside, domain) = DEFAULT_FILE
        .split_once("[domains.\"example.org\"]")
        .unwrap();
    let names = |text: &str, key: &str| {
        text.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.split_once('=')
                .is_some_and(|(name, _)| name.trim() == key)
        })
    };
    for key in KEYS {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        let section = if table.is_empty() {
            outside.split("\n[").next().unwrap()
        } else {
            let (_, rest) = outside.split_once(&format!("\n[{table}]\n")).unwrap();
            rest.split("\n[").next().unwrap()
        };
        assert!(names(section, name), "{key}");
    }
    for key in DOMAIN_KEYS {
        let in_a_list = [format!(" {key},"), format!(" {key} as in [bosh]")];
        assert!(
            names(domain, key) || in_a_list.iter().any(|text| domain.contains(text)),
            "{key} of a domain"
        );
    }
}

#[test]
fn every_commented_key_of_the_annotated_file_is_known() {
    let uncommented: String = DEFAULT_FILE
        .lines()
        .map(|line| {
            let key = line.strip_prefix("# ").filter(|rest| {
                let name = rest.split(" =").next().unwrap_or_default();
                rest.starts_with('[')
                    || rest.contains(" = ")
                        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            });
            format!("{}\n", key.unwrap_or(line))
        })
        // Three passwords at once are refused.
        .filter(|line| !line.starts_with("password_file") && !line.starts_with("password_command"))
        .collect();
    // The password inside the file of the caller alone; the certificates are read later.
    let config = config(&uncommented);
    let domain = &config.domains["example.org"];
    assert_eq!(config.default_domain.as_deref(), Some("example.org"));
    assert!(config.tls.client_key.is_some() && config.proxy.credentials.is_some());
    assert_eq!(
        domain.url.as_ref().unwrap().as_str(),
        "https://example.org/http-bind"
    );
    assert_eq!(domain.proxy.source, super::super::ProxySource::None);
    assert!(domain.proxy.credentials.is_none());
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(
        format!("{:?}", config("")),
        format!("{:?}", Config::default())
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_snapshot!(errors(&[
        "lisen = []",
        "allow_remote = true",
        "\n\n  allowed_domain = []",
        "[bosh]\nwiat = 5",
        "[proxy]\nuser = 'x'",
        "[limits]\n\nmax_streems = 5",
        "wait = 5",
        "[log]\nmax_depth = 5",
        "[prxy]\nurl = 'none'",
        "[domains.'example.org']\nulr = 'https://example.org/'",
        "[domains.'example.org']\nprxy = {}",
        "[limits]\nmax = 1",
        "[domains.'example.org'.proxy]\nurll = 'none'",
        "[domains.'example.org'.bosh]\nwait = 5",
        "[domains.'example.org']\nlisten = []",
        "[domain.'example.org']\nurl = 'https://example.org/'",
        "zzz = 1",
        "\"a\\u001b[2J\" = 1",
    ]), @r#"
    config.toml:1:1: unknown key lisen; did you mean listen?
    config.toml:1:1: unknown key allow_remote; did you mean allow_remote_clients?
    config.toml:3:3: unknown key allowed_domain; did you mean allowed_domains?
    config.toml:2:1: unknown key bosh.wiat; did you mean bosh.wait?
    config.toml:2:1: unknown key proxy.user; did you mean proxy.username?
    config.toml:3:1: unknown key limits.max_streems; did you mean limits.max_streams?
    config.toml:1:1: unknown key wait; did you mean bosh.wait?
    config.toml:2:1: unknown key log.max_depth; did you mean limits.max_depth?
    config.toml:2:1: unknown key prxy.url; did you mean proxy.url?
    config.toml:2:1: unknown key domains."example.org".ulr; did you mean domains."example.org".url?
    config.toml:2:1: unknown key domains."example.org".prxy; did you mean domains."example.org".proxy.url?
    config.toml:2:1: unknown key limits.max; did you mean limits.max_depth?
    config.toml:2:1: unknown key domains."example.org".proxy.urll; did you mean domains."example.org".proxy.url?
    config.toml:2:1: unknown key domains."example.org".bosh.wait; did you mean domains."example.org".wait?
    config.toml:2:1: unknown key domains."example.org".listen
    config.toml:2:1: unknown key domain."example.org".url; did you mean domains."example.org".url?
    config.toml:1:1: unknown key zzz
    config.toml:1:1: unknown key "a\u{1b}[2J"
    "#);
}

#[test]
fn wrong_types() {
    assert_snapshot!(errors(&[
        "listen = '127.0.0.1:1'",
        "listen = [5222]",
        "listen = ['localhost:5222']",
        "listen = ['unix:run/x']",
        "listen = []",
        "listen = {}",
        "allow_remote_clients = 'yes'",
        "default_domain = 5",
        "allowed_domains = 'example.org'",
        "allowed_domains = [true]",
        "[bosh]\nwait = '55'",
        "[bosh]\nwait = 5.5",
        "[bosh]\nver = 1.6",
        "[bosh]\nlang = 2026-01-01",
        "[proxy]\nurl = [5]",
        "[proxy]\nno_proxy = 'localhost'",
        "[tls]\nca_file = ''",
        "[tls]\nca_file = {}",
        "[domains]\n'example.org' = 'https://example.org/'",
        "[domains.'example.org']\nallow_plain_http = 1",
        "bosh = 5",
        "proxy = 'none'",
        "[domains.'example.org']\nproxy = 'none'",
        "[[proxy]]\nurl = 'none'",
    ]), @r#"
    config.toml:1:1: listen must be a list of strings, not a string
    config.toml:1:1: listen must hold strings only, not an integer
    config.toml:1:1: listen has "localhost:5222", which is neither an address and port like "127.0.0.1:5222" nor a socket like "unix:/path"
    config.toml:1:1: listen has "unix:run/x", whose path must begin with / behind unix:
    config.toml:1:1: listen is empty: it must hold at least one address
    config.toml:1:1: listen must be a list of strings, not a table
    config.toml:1:1: allow_remote_clients must be true or false, not a string
    config.toml:1:1: default_domain must be a string, not an integer
    config.toml:1:1: allowed_domains must be a list of strings, not a string
    config.toml:1:1: allowed_domains must hold strings only, not true or false
    config.toml:2:1: bosh.wait must be an integer, not a string
    config.toml:2:1: bosh.wait must be an integer, not a number with a fraction
    config.toml:2:1: bosh.ver must be a string, not a number with a fraction
    config.toml:2:1: bosh.lang must be a string, not a date
    config.toml:2:1: proxy.url must hold strings only, not an integer
    config.toml:2:1: proxy.no_proxy must be a list of strings, not a string
    config.toml:2:1: tls.ca_file must name a file
    config.toml:2:1: tls.ca_file must be a string, not a table
    config.toml:2:1: domains."example.org" must be a table, as in [domains."example.org"]
    config.toml:2:1: domains."example.org".allow_plain_http must be true or false, not an integer
    config.toml:1:1: bosh must be a table, as in [bosh]
    config.toml:1:1: proxy must be a table, as in [proxy]
    config.toml:2:1: domains."example.org".proxy must be a table, as in [domains."example.org".proxy]
    config.toml:1:3: proxy must be a table, as in [proxy]
    "#);
}

#[test]
fn wrong_words() {
    assert_snapshot!(errors(&[
        "[features]\nchannel_binding = 'off'",
        "[log]\nformat = 'text'",
        "[log]\nlevel = ''",
        "[log]\nlevel = 'debgu'",
        "[log]\nlevel = 'info,xbosh='",
        "[log]\nlevel = 'xbosh[{client}]=debug'",
        "[bosh]\nver = '1'",
        "[bosh]\nver = '1.x'",
        "[bosh]\nlang = ''",
        "[bosh]\nlang = \"e'n\"",
        "[domains.'example.org']\nroute = 'example.org:5222'",
        "[domains.'example.org']\nroute = 'xmpp::5222'",
        "[domains.'example.org']\nroute = 'xmpp:example.org:99999'",
    ]), @r#"
    config.toml:2:1: features.channel_binding must be "filter" or "pass"
    config.toml:2:1: log.format must be "auto" or "json"
    config.toml:2:1: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug"
    config.toml:2:1: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug"
    config.toml:2:1: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug"
    config.toml:2:1: log.level must not name spans or fields in brackets; a filter looks like "info,xbosh=debug"
    config.toml:2:1: bosh.ver must be two integers joined by a dot, like "1.6"
    config.toml:2:1: bosh.ver must be two integers joined by a dot, like "1.6"
    config.toml:2:1: bosh.lang must be a language tag like "en" or "de-CH"
    config.toml:2:1: bosh.lang must be a language tag like "en" or "de-CH"
    config.toml:2:1: domains."example.org".route must look like "xmpp:host:5222"
    config.toml:2:1: domains."example.org".route must look like "xmpp:host:5222"
    config.toml:2:1: domains."example.org".route must look like "xmpp:host:5222"
    "#);
    for level in [
        "error",
        "WARN",
        "trace",
        "off",
        "info,xbosh=debug",
        "xbosh::http=trace",
    ] {
        let text = format!("[log]\nlevel = '{level}'");
        assert_eq!(config(&text).log.level, level);
    }
}

/// `[table] key`, its least and its greatest value.
const RANGES: [(&str, &str, u64, u64); 14] = [
    ("[bosh]", "wait", 1, 3600),
    ("[bosh]", "hold", 1, 10),
    ("[bosh]", "max_body_bytes", 1024, 16 << 20),
    ("[limits]", "max_streams", 1, 1_000_000),
    ("[limits]", "session_rate", 1, 1_000_000),
    ("[limits]", "max_stanza_bytes", 10_000, 1 << 30),
    ("[limits]", "max_depth", 8, 10_000),
    ("[limits]", "max_attributes", 8, 10_000),
    ("[limits]", "max_response_bytes", 10_000, 1 << 30),
    ("[limits]", "buffer_bytes", 10_000, 1 << 30),
    ("[limits]", "header_timeout", 1, 3600),
    ("[limits]", "setup_timeout", 5, 3600),
    ("[domains.'a.example']", "wait", 1, 3600),
    ("[domains.'a.example']", "hold", 1, 10),
];

#[test]
fn every_range_ends_where_it_says() {
    for (table, key, low, high) in RANGES {
        let with = |value: String| {
            // A reply and a buffer must not be smaller than a stanza.
            let other = match key {
                "max_stanza_bytes" => "max_response_bytes = 1073741824\nbuffer_bytes = 1073741824",
                "max_response_bytes" | "buffer_bytes" => "max_stanza_bytes = 10000",
                _ => "",
            };
            Files::new(&format!("{table}\n{key} = {value}\n{other}"))
                .load_with(&[])
                .map(drop)
        };
        assert_eq!(with(low.to_string()), Ok(()), "{key}");
        assert_eq!(with(high.to_string()), Ok(()), "{key}");
        let outside = [
            (low - 1).to_string(),
            (high + 1).to_string(),
            "-1".into(),
            "-99999999999999999999".into(),
            "99999999999999999999".into(),
            "0xFFFF_FFFF_FFFF_FFFF_FFFF".into(),
        ];
        for value in outside {
            let sentence = with(value.clone()).unwrap_err();
            let unit = match key {
                "wait" | "header_timeout" | "setup_timeout" => " s",
                _ => "",
            };
            let expected = format!("{key} must be from {low} to {high}{unit}");
            assert!(
                sentence.starts_with("config.toml:2:1: ") && sentence.ends_with(&expected),
                "{key} = {value}: {sentence}"
            );
        }
    }
    assert_snapshot!(error("[bosh]\nwait = 0"), @"config.toml:2:1: bosh.wait must be from 1 to 3600 s");
}

#[test]
fn integers_in_every_notation_of_toml() {
    for number in ["60", "6_0", "0x3C", "0o74", "0b111100", "+60"] {
        let text = format!("[bosh]\nwait = {number}");
        assert_eq!(config(&text).bosh.wait, Duration::from_secs(60), "{number}");
    }
}

#[test]
fn settings_that_do_not_fit_together() {
    assert_snapshot!(errors(&[
        "[limits]\nmax_response_bytes = 10000",
        "[tls]\nclient_cert = '/c.pem'",
        "[tls]\nclient_key = '/k.pem'",
        "default_domain = 'b.example'\nallowed_domains = ['a.example']",
    ]), @r#"
    config.toml:2:1: limits.max_response_bytes must not be below limits.max_stanza_bytes (1048576)
    config.toml:2:1: tls.client_cert needs client_key beside it
    config.toml:2:1: tls.client_key needs client_cert beside it
    config.toml:1:1: default_domain is "b.example", which allowed_domains does not hold
    "#);
    config("default_domain = 'A.example'\nallowed_domains = ['b.example', 'a.example']");
}

/// S-01.
#[test]
fn s01_listening_for_other_machines_needs_an_explicit_key() {
    assert_snapshot!(errors(&[
        "listen = ['0.0.0.0:5222']",
        "listen = ['127.0.0.1:5222', '[::]:5222']",
        "listen = ['192.0.2.1:5222']",
    ]), @"
    config.toml:1:1: listen has 0.0.0.0:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only
    config.toml:1:1: listen has [::]:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only
    config.toml:1:1: listen has 192.0.2.1:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only
    ");
    let text = "listen = ['127.0.0.9:1', '[::1]:1', '192.0.2.1:5222']\nallow_remote_clients = true";
    let loaded = Files::new(text).load_with(&[]).unwrap();
    assert_eq!(loaded.config.listen.len(), 3);
    assert_snapshot!(loaded.warnings.join("\n"), @"clients on other machines can reach 192.0.2.1:5222: they are served over TLS only");
    let loopback = Files::new("allow_remote_clients = true").load_with(&[]);
    assert!(loopback.unwrap().warnings.is_empty());
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Files::new("");
    fs::remove_file(missing.path().join("config.toml")).unwrap();
    let directory = Files::new("");
    fs::remove_file(directory.path().join("config.toml")).unwrap();
    fs::create_dir(directory.path().join("config.toml")).unwrap();
    let bytes = Files::new("");
    fs::write(bytes.path().join("config.toml"), b"listen = ['\xff']").unwrap();
    let sentences: Vec<String> = [&missing, &directory, &bytes]
        .iter()
        .map(|files| files.load_with(&[]).unwrap_err())
        .collect();
    assert_snapshot!(sentences.join("\n"), @"
    cannot read the configuration file config.toml: no such file or directory
    cannot read the configuration file config.toml: is a directory
    cannot read the configuration file config.toml: not UTF-8 text
    ");
}

#[test]
fn the_users_file_is_found() {
    let files = Files::new("");
    for folder in ["xdg/xbosh", ".config/xbosh"] {
        fs::create_dir_all(files.path().join(folder)).unwrap();
    }
    files.write("xdg/xbosh/config.toml", "default_domain = 'xdg.example'");
    files.write(
        ".config/xbosh/config.toml",
        "default_domain = 'home.example'",
    );
    let home = files.path().display().to_string();
    let xdg = files.path().join("xdg").display().to_string();
    let found = |environment: &[(&str, &str)]| {
        let loaded = load(&Flags::default(), &pairs(environment)).unwrap();
        (loaded.config.default_domain, loaded.file)
    };
    let both = found(&[("HOME", &home), ("XDG_CONFIG_HOME", &xdg)]);
    assert_eq!(both.0.as_deref(), Some("xdg.example"));
    assert_eq!(both.1, Some(files.path().join("xdg/xbosh/config.toml")));
    for other in ["", "relative"] {
        let fallen_back = found(&[("HOME", &home), ("XDG_CONFIG_HOME", other)]);
        assert_eq!(fallen_back.0.as_deref(), Some("home.example"));
    }
    let nothing = found(&[("HOME", "/nonexistent")]);
    assert_eq!(nothing, found(&[]));
}

#[test]
fn stream_management() {
    use crate::config::StreamManagementMode::{Local, Off, Pass};
    for (text, mode, seconds) in [
        ("", Local, 60),
        ("mode = 'pass'", Pass, 60),
        ("mode = 'off'\nresume_window = 0", Off, 0),
        ("resume_window = 3600", Local, 3600),
    ] {
        let loaded = config(&format!("[stream_management]\n{text}\n")).stream_management;
        assert_eq!(
            (loaded.mode, loaded.resume_window.as_secs()),
            (mode, seconds)
        );
    }
    assert_snapshot!(errors(&[
        "[stream_management]\nmode = 'on'",
        "[stream_management]\nresume_window = 3601",
        "stream_management = 'local'",
    ]), @r#"
    config.toml:2:1: stream_management.mode must be "local", "pass" or "off"
    config.toml:2:1: stream_management.resume_window must be from 0 to 3600 s
    config.toml:1:1: stream_management must be a table, as in [stream_management]
    "#);
}

/// B-64, B-72: off unless asked for; a domain may have its own key sequence.
#[test]
fn key_sequence_and_same_certificate() {
    let plain = config("");
    assert!(!plain.bosh.key_sequence && !plain.tls.same_certificate);
    let set = config(
        "[tls]\nsame_certificate = true\n[bosh]\nkey_sequence = true\n\
         [domains.'a.example']\nurl = 'http://127.0.0.1/b'\nkey_sequence = false\n\
         [domains.'b.example']\nurl = 'http://127.0.0.1/b'\n",
    );
    assert!(set.tls.same_certificate);
    let keys: Vec<_> = set.domains.values().map(|d| d.bosh.key_sequence).collect();
    assert_eq!(keys, [false, true]);
    assert!(set.domains.values().all(|d| d.tls.same_certificate));
}

/// B-07: whatever a manager offers unless told otherwise; a domain may differ.
#[test]
fn http_version() {
    assert_eq!(config("").bosh.http_version, HttpVersion::Auto);
    let set = config(
        "[bosh]\nhttp_version = '1.1'\n\
         [domains.'a.example']\nhttp_version = 'auto'\n[domains.'b.example']\n",
    );
    let versions: Vec<_> = set.domains.values().map(|d| d.bosh.http_version).collect();
    assert_eq!(versions, [HttpVersion::Auto, HttpVersion::Http11]);
    let from_environment = Files::new("")
        .load_with(&[("XBOSH_BOSH__HTTP_VERSION", "1.1")])
        .unwrap();
    let bosh = from_environment.config.bosh;
    assert_eq!(bosh.http_version, HttpVersion::Http11);
}
