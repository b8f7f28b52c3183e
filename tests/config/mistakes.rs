//! One sentence for each mistake: file, line, key, what is wrong, what is allowed.

use insta::assert_snapshot;
use xbosh::config::{Flags, load};

use crate::support::{Folder, config, flag_mistake, mistake};

#[test]
fn unknown_keys_name_the_nearest() {
    assert_snapshot!(mistake("[limits]\nmax_stream = 5\n"), @"config.toml:2:1: unknown key limits.max_stream; did you mean limits.max_streams?");
    assert_snapshot!(mistake("listen = []\n"), @"config.toml:1:1: listen is empty: it must hold at least one address");
    assert_snapshot!(mistake("wait = 5\n"), @"config.toml:1:1: unknown key wait; did you mean bosh.wait?");
    assert_snapshot!(mistake("[proxi]\nurl = 'none'\n"), @"config.toml:2:1: unknown key proxi.url; did you mean proxy.url?");
    assert_snapshot!(mistake("[proxi]\n"), @"config.toml:1:2: unknown key proxi; did you mean proxy.isolate?");
    assert_snapshot!(mistake("[proxy]\n\n  pasword = 'hunter2'\n"), @"config.toml:3:3: unknown key proxy.pasword; did you mean proxy.password?");
    assert_snapshot!(mistake("[domains.'example.org']\nurll = 'https://x.example/'\n"), @r#"config.toml:2:1: unknown key domains."example.org".urll; did you mean domains."example.org".url?"#);
    assert_snapshot!(mistake("[domains.'example.org'.proxy]\nuser = 'x'\n"), @r#"config.toml:2:1: unknown key domains."example.org".proxy.user; did you mean domains."example.org".proxy.username?"#);
    assert_snapshot!(mistake("zzz = 1\n"), @"config.toml:1:1: unknown key zzz");
    assert_snapshot!(mistake("\"li\\u001bsten\" = 1\n"), @r#"config.toml:1:1: unknown key "li\u{1b}sten"; did you mean listen?"#);
}

/// Keys of later versions are no keys yet: nothing is accepted and then ignored.
#[test]
fn keys_that_do_nothing_do_not_exist() {
    let sentence = mistake("bosh.compress = false\n");
    assert!(
        sentence.starts_with("config.toml:1:") && sentence.contains("unknown key"),
        "{sentence}"
    );
}

/// A key that this build cannot follow is no key to be ignored.
#[test]
fn d10_dns_txt_needs_its_feature() {
    let loaded = config("[discovery]\ndns_txt = false\n");
    assert!(!loaded.discovery.dns_txt);
    #[cfg(feature = "dns")]
    assert!(config("[discovery]\ndns_txt = true\n").discovery.dns_txt);
    #[cfg(not(feature = "dns"))]
    assert_snapshot!(mistake("[discovery]\ndns_txt = true\n"), @"config.toml:2:1: discovery.dns_txt needs an xbosh that was built with the feature dns");
}

#[test]
fn not_toml() {
    assert_snapshot!(mistake("listen = [\n"), @"config.toml:1:11: not valid TOML: unclosed array, expected `]`");
    assert_snapshot!(mistake("[proxy]\npassword = hunter2\n"), @"config.toml:2:12: not valid TOML: string values must be quoted, expected literal string");
    assert_snapshot!(mistake("[bosh]\nwait = 5\nwait = 6\n"), @"config.toml:3:1: not valid TOML: duplicate key");
}

#[test]
fn wrong_types() {
    assert_snapshot!(mistake("listen = '127.0.0.1:5222'\n"), @"config.toml:1:1: listen must be a list of strings, not a string");
    assert_snapshot!(mistake("listen = [5222]\n"), @"config.toml:1:1: listen must hold strings only, not an integer");
    assert_snapshot!(mistake("allow_remote_clients = 'yes'\n"), @"config.toml:1:1: allow_remote_clients must be true or false, not a string");
    assert_snapshot!(mistake("[bosh]\nwait = '55'\n"), @"config.toml:2:1: bosh.wait must be an integer, not a string");
    assert_snapshot!(mistake("[bosh]\nwait = 5.5\n"), @"config.toml:2:1: bosh.wait must be an integer, not a number with a fraction");
    assert_snapshot!(mistake("[bosh]\nver = 1.6\n"), @"config.toml:2:1: bosh.ver must be a string, not a number with a fraction");
    assert_snapshot!(mistake("proxy = 'http://proxy.example'\n"), @"config.toml:1:1: proxy must be a table, as in [proxy]");
    assert_snapshot!(mistake("[domains]\n'example.org' = 'https://x.example/'\n"), @r#"config.toml:2:1: domains."example.org" must be a table, as in [domains."example.org"]"#);
    assert_snapshot!(mistake("[domains.'example.org']\nproxy = 'none'\n"), @r#"config.toml:2:1: domains."example.org".proxy must be a table, as in [domains."example.org".proxy]"#);
}

#[test]
fn ranges() {
    assert_snapshot!(mistake("[bosh]\nwait = 0\n"), @"config.toml:2:1: bosh.wait must be from 1 to 3600 s");
    assert_snapshot!(mistake("[bosh]\nwait = 3601\n"), @"config.toml:2:1: bosh.wait must be from 1 to 3600 s");
    assert_snapshot!(mistake("[bosh]\nhold = 99999999999999999999\n"), @"config.toml:2:1: bosh.hold must be from 1 to 10");
    assert_snapshot!(mistake("[bosh]\nver = '1'\n"), @r#"config.toml:2:1: bosh.ver must be two integers joined by a dot, like "1.6""#);
    assert_snapshot!(mistake("[bosh]\nlang = 'de DE'\n"), @r#"config.toml:2:1: bosh.lang must be a language tag like "en" or "de-CH""#);
    assert_snapshot!(mistake("[bosh]\nmax_body_bytes = -1\n"), @"config.toml:2:1: bosh.max_body_bytes must be from 1024 to 16777216");
    assert_snapshot!(mistake("[limits]\nmax_streams = 0\n"), @"config.toml:2:1: limits.max_streams must be from 1 to 1000000");
    assert_snapshot!(mistake("[limits]\nmax_depth = 1\n"), @"config.toml:2:1: limits.max_depth must be from 8 to 10000");
    assert_snapshot!(mistake("[limits]\nmax_attributes = 0\n"), @"config.toml:2:1: limits.max_attributes must be from 8 to 10000");
    assert_snapshot!(mistake("[limits]\nheader_timeout = 0\n"), @"config.toml:2:1: limits.header_timeout must be from 1 to 3600 s");
    assert_snapshot!(mistake("[limits]\nsetup_timeout = 0\n"), @"config.toml:2:1: limits.setup_timeout must be from 5 to 3600 s");
    assert_snapshot!(mistake("[domains.'example.org']\nhold = 0\n"), @r#"config.toml:2:1: domains."example.org".hold must be from 1 to 10"#);
}

/// S-29: the limit for a stanza is never below 10 000 bytes, and what must hold one is not smaller than it.
#[test]
fn s29_the_stanza_limit_has_a_floor() {
    assert_snapshot!(mistake("[limits]\nmax_stanza_bytes = 9999\n"), @"config.toml:2:1: limits.max_stanza_bytes must be from 10000 to 1073741824");
    assert_eq!(
        config("[limits]\nmax_stanza_bytes = 10000\n")
            .limits
            .max_stanza_bytes,
        10_000
    );
    assert_snapshot!(mistake("[limits]\nmax_response_bytes = 20000\n"), @"config.toml:2:1: limits.max_response_bytes must not be below limits.max_stanza_bytes (1048576)");
    assert_snapshot!(mistake("[limits]\nbuffer_bytes = 20000\n"), @"config.toml:2:1: limits.buffer_bytes must not be below limits.max_stanza_bytes (1048576)");
    assert_snapshot!(mistake("[limits]\nmax_stanza_bytes = 5000000\n"), @"config.toml:2:1: limits.max_stanza_bytes must not be above limits.buffer_bytes (4194304)");
}

#[test]
fn words() {
    assert_snapshot!(mistake("[bosh]\nhttp_version = '2'\n"), @r#"config.toml:2:1: bosh.http_version must be "auto" or "1.1""#);
    assert_snapshot!(mistake("[bosh]\nhttp_version = 1.1\n"), @"config.toml:2:1: bosh.http_version must be a string, not a number with a fraction");
    assert_snapshot!(mistake("[features]\nplain_without_tls = 'no'\n"), @r#"config.toml:2:1: features.plain_without_tls must be "offer" or "hide""#);
    assert_snapshot!(mistake("[features]\nchannel_binding = 'maybe'\n"), @r#"config.toml:2:1: features.channel_binding must be "filter" or "pass""#);
    assert_snapshot!(mistake("[log]\nformat = 'xml'\n"), @r#"config.toml:2:1: log.format must be "auto" or "json""#);
    assert_snapshot!(mistake("[log]\nlevel = 'inof'\n"), @r#"config.toml:2:1: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug""#);
    assert_snapshot!(mistake("[log]\nlevel = 'xbosh=loud'\n"), @r#"config.toml:2:1: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug""#);
    assert_snapshot!(mistake("[log]\nlevel = ''\n"), @r#"config.toml:2:1: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug""#);
    assert_eq!(
        config("[log]\nlevel = 'info,hyper=trace'\n").log.level,
        "info,hyper=trace"
    );
}

#[test]
fn addresses() {
    assert_snapshot!(mistake("listen = ['localhost:5222']\n"), @r#"config.toml:1:1: listen has "localhost:5222", which is neither an address and port like "127.0.0.1:5222" nor a socket like "unix:/path""#);
    assert_snapshot!(mistake("listen = []\n"), @"config.toml:1:1: listen is empty: it must hold at least one address");
    assert_snapshot!(mistake("listen = ['[::1]:5222', '[::1]:5222']\n"), @"config.toml:1:1: listen has [::1]:5222 twice");
    assert_snapshot!(mistake("listen = ['0.0.0.0:5222']\n"), @"config.toml:1:1: listen has 0.0.0.0:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only");
    assert_snapshot!(mistake("listen = ['unix:/run/x', 'unix:/run/x']\n"), @"config.toml:1:1: listen has unix:/run/x twice");
    config("listen = ['127.0.0.1:0', '127.0.0.1:0', '127.8.8.8:5222']\n");
}

#[test]
fn domains() {
    assert_snapshot!(mistake("default_domain = 'romeo@example.org'\n"), @r#"config.toml:1:1: default_domain has "romeo@example.org", which is no domain name"#);
    assert_snapshot!(mistake("allowed_domains = ['example.org/phone']\n"), @r#"config.toml:1:1: allowed_domains has "example.org/phone", which is no domain name"#);
    assert_snapshot!(mistake("allowed_domains = []\n"), @"config.toml:1:1: allowed_domains must not be empty; leave it out to allow any domain");
    assert_snapshot!(mistake("default_domain = 'a.example'\nallowed_domains = ['b.example']\n"), @r#"config.toml:1:1: default_domain is "a.example", which allowed_domains does not hold"#);
    assert_snapshot!(mistake("[domains.'exa mple']\n"), @r#"config.toml:1:10: domains."exa mple" is no domain name"#);
    assert_snapshot!(
        mistake("[domains.'Bücher.example']\nwait = 5\n[domains.'xn--bcher-kva.example']\nwait = 5\n"),
        @r#"config.toml:4:1: domains."xn--bcher-kva.example" is the same domain as "Bücher.example"; keep one of the two"#
    );
    let unused = Folder::new("allowed_domains = ['a.example']\n[domains.'b.example']\n");
    assert_snapshot!(unused.load(&[]).unwrap().warnings.join("\n"), @r#"allowed_domains does not hold "b.example": clients cannot use its settings"#);
    let literals = config("[domains.'[::1]']\n[domains.'127.0.0.1']\n");
    assert_eq!(literals.domains.len(), 2);
}

/// B-70: plain http only where nobody can listen, or where it is asked for.
#[test]
fn b70_plain_http_needs_a_switch() {
    let domain = |line: &str| format!("[domains.'example.org']\n{line}\n");
    assert_snapshot!(mistake(&domain("url = 'http://cm.example/bosh'")), @r#"config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it"#);
    assert_snapshot!(mistake(&domain("url = 'http://cm.example/bosh'\nallow_plain_http = false")), @r#"config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it"#);
    for refused in [
        "http://onion/",
        "http://localhost.example/",
        "http://128.0.0.1/",
        "http://x.localhost/",
    ] {
        let sentence = mistake(&domain(&format!("url = '{refused}'")));
        assert!(
            sentence.contains("allow_plain_http"),
            "{refused}: {sentence}"
        );
    }
    for accepted in [
        "https://cm.example/bosh",
        "http://127.0.0.1:5280/bosh",
        "http://127.9.9.9/bosh",
        "http://[::1]:5280/bosh",
        "http://localhost/bosh",
        "http://abcdefgh.onion/bosh",
    ] {
        config(&domain(&format!("url = '{accepted}'")));
    }
    config(&domain(
        "url = 'http://cm.example/'\nallow_plain_http = true",
    ));

    let flags = Flags {
        domain: Some(("example.org".into(), "http://cm.example/".into())),
        ..Flags::default()
    };
    assert_snapshot!(flag_mistake("", flags), @r#"--url: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it"#);
}

#[test]
fn urls_of_connection_managers() {
    let domain = |url: &str| mistake(&format!("[domains.'example.org']\nurl = '{url}'\n"));
    assert_snapshot!(domain("https://me:hunter2@cm.example/"), @r#"config.toml:2:1: domains."example.org".url must not hold a user name or password"#);
    assert_snapshot!(domain("wss://cm.example/"), @r#"config.toml:2:1: domains."example.org".url has scheme wss; use https"#);
    assert_snapshot!(domain("cm.example/http-bind"), @r#"config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind"#);
    assert_snapshot!(domain("https://"), @r#"config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind"#);
    assert_snapshot!(mistake("[domains.'example.org']\nroute = 'im.example:5222'\n"), @r#"config.toml:2:1: domains."example.org".route must look like "xmpp:host:5222""#);
    assert_snapshot!(mistake("[domains.'example.org']\nroute = 'xmpp:im.example:99999'\n"), @r#"config.toml:2:1: domains."example.org".route must look like "xmpp:host:5222""#);
}

#[test]
fn certificates() {
    assert_snapshot!(mistake("[tls]\nclient_cert = 'c.pem'\n"), @"config.toml:2:1: tls.client_cert needs client_key beside it");
    assert_snapshot!(mistake("[tls]\nclient_key = 'k.pem'\n"), @"config.toml:2:1: tls.client_key needs client_cert beside it");
    assert_snapshot!(mistake("[tls]\nca_file = ''\n"), @"config.toml:2:1: tls.ca_file must name a file");
}

#[test]
fn files() {
    let folder = Folder::new("");
    let named = |name: &str| Flags {
        config: Some(folder.path().join(name)),
        ..Flags::default()
    };
    let sentence = |name: &str| folder.shown(load(&named(name), &[]).unwrap_err());
    assert_snapshot!(sentence("missing.toml"), @"cannot read the configuration file missing.toml: no such file or directory");
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    assert_snapshot!(sentence("folder"), @"cannot read the configuration file folder: is a directory");
    std::fs::write(folder.path().join("latin1"), b"# \xe9\n").unwrap();
    assert_snapshot!(sentence("latin1"), @"cannot read the configuration file latin1: not UTF-8 text");
    folder.write("huge", &"#\n".repeat(1 << 20), 0o600);
    assert_snapshot!(sentence("huge"), @"cannot read the configuration file huge: it is larger than 1 MiB");
}

#[test]
fn variables_and_flags_are_named() {
    let folder = Folder::new("");
    assert_snapshot!(folder.mistake(&[("XBOSH_BOSH__WAIT", "long")]), @"environment variable XBOSH_BOSH__WAIT: bosh.wait must be an integer, not a string");
    assert_snapshot!(folder.mistake(&[("XBOSH_LISTEN", "0.0.0.0:5222")]), @"environment variable XBOSH_LISTEN: listen has 0.0.0.0:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only");
    assert_snapshot!(folder.mistake(&[("XBOSH_PROXY__URL", "5")]), @r#"environment variable XBOSH_PROXY__URL: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://"#);
    let flags = |flags: Flags| flag_mistake("", flags);
    let domain = |domain: &str, url: &str| Flags {
        domain: Some((domain.into(), url.into())),
        ..Flags::default()
    };
    assert_snapshot!(flags(domain("me@example.org", "https://x.example/")), @r#"--domain: domains."me@example.org" is no domain name"#);
    assert_snapshot!(flags(domain("example.org", "x.example")), @r#"--url: domains."example.org".url must be a URL like https://example.org/http-bind"#);
    assert_snapshot!(flags(domain("example.org", "https://me:hunter2@x.example")), @r#"--url: domains."example.org".url must not hold a user name or password"#);
    assert_snapshot!(flags(Flags { log: Some("loud".into()), ..Flags::default() }), @r#"--log: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug""#);
    assert_snapshot!(flags(Flags { proxy: Some("ftp://x.example".into()), ..Flags::default() }), @r#"--proxy: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://"#);
    let remote = vec!["192.0.2.1:5222".parse().unwrap()];
    assert_snapshot!(flags(Flags { listen: remote, ..Flags::default() }), @"--listen: listen has 192.0.2.1:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only");
}
