//! `[domains."…"]`: names, addresses of connection managers, inheritance.

use insta::assert_snapshot;

use super::*;

#[test]
fn domains_are_compared_as_lower_case_a_labels() {
    let config = config(
        "default_domain = 'BÜCHER.example.'\n\
         allowed_domains = ['Bücher.EXAMPLE', 'Example.ORG']\n\
         [domains.'Bücher.EXAMPLE']\nurl = 'https://cm.example/'",
    );
    assert_eq!(
        config.default_domain.as_deref(),
        Some("xn--bcher-kva.example")
    );
    assert_eq!(
        config.allowed_domains.unwrap(),
        ["xn--bcher-kva.example", "example.org"]
    );
    assert!(config.domains.contains_key("xn--bcher-kva.example"));
}

#[test]
fn bad_and_double_domains() {
    assert_snapshot!(errors(&[
        "default_domain = 'a@b'",
        "default_domain = ''",
        "allowed_domains = ['ok.example', 'a/b']",
        "[domains.'a@b']\nurl = 'https://b.example/'",
        "[domains.'a/b']",
        "[domains.'']\nwait = 5",
        "[domains.'Bücher.example']\nwait = 5\n[domains.'xn--bcher-kva.example']\nwait = 6",
    ]), @r#"
    config.toml:1:1: default_domain has "a@b", which is no domain name
    config.toml:1:1: default_domain has "", which is no domain name
    config.toml:1:1: allowed_domains has "a/b", which is no domain name
    config.toml:2:1: domains."a@b" is no domain name
    config.toml:1:10: domains."a/b" is no domain name
    config.toml:2:1: domains."" is no domain name
    config.toml:4:1: domains."xn--bcher-kva.example" is the same domain as "Bücher.example"; keep one of the two
    "#);
}

/// B-70.
#[test]
fn b70_the_manager_is_reached_by_https() {
    let url = |url: &str| format!("[domains.'example.org']\nurl = '{url}'");
    let wrong = [
        "http://example.org/http-bind",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://10.0.0.1/",
        "http://onion/",
        "https://romeo:secret@example.org/",
        "https://romeo@example.org/",
        "ws://example.org/",
        "example.org/http-bind",
        "example.org:5280/http-bind",
        "https://",
        "https://example.org:99999/",
        "",
    ];
    let texts: Vec<String> = wrong.iter().map(|text| url(text)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_snapshot!(errors(&texts), @r#"
    config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    config.toml:2:1: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    config.toml:2:1: domains."example.org".url must not hold a user name or password
    config.toml:2:1: domains."example.org".url must not hold a user name or password
    config.toml:2:1: domains."example.org".url has scheme ws; use https
    config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind
    config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind
    config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind
    config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind
    config.toml:2:1: domains."example.org".url must be a URL like https://example.org/http-bind
    "#);
    for right in [
        "https://example.org/http-bind",
        "HTTPS://Example.org:5281/b?x=1",
        "http://localhost:5280/b",
        "http://127.0.0.1/",
        "http://127.8.9.1/",
        "http://[::1]:5280/",
        "http://abc.onion/b",
    ] {
        let config = config(&url(right));
        assert!(config.domains["example.org"].url.is_some(), "{right}");
    }
    let plain = format!("{}\nallow_plain_http = true", url("http://example.org/b"));
    assert_eq!(
        config(&plain).domains["example.org"]
            .url
            .as_ref()
            .unwrap()
            .as_str(),
        "http://example.org/b"
    );
}

#[test]
fn a_domain_inherits_what_it_leaves_out() {
    let config = config(
        "[tls]\nca_file = '/roots.pem'\nclient_cert = '/c.pem'\nclient_key = '/k.pem'\n\
         [bosh]\nwait = 10\nlang = 'de'\n\
         [domains.'a.example']\n\
         [domains.'b.example']\nca_file = '/b.pem'\nwait = 20\nhold = 2\nver = '1.11'\nmax_body_bytes = 2048\n\
         route = 'xmpp:b.example:5222'",
    );
    let a = &config.domains["a.example"];
    assert_eq!(
        (&a.tls, &a.bosh, &a.route, &a.url),
        (&config.tls, &config.bosh, &None, &None)
    );
    let b = &config.domains["b.example"];
    assert_eq!(b.tls.ca_file.as_deref(), Some(Path::new("/b.pem")));
    assert_eq!(b.tls.client_key, config.tls.client_key);
    assert_eq!(
        (b.bosh.wait.as_secs(), b.bosh.hold, b.bosh.ver.as_str()),
        (20, 2, "1.11")
    );
    assert_eq!((b.bosh.max_body_bytes, b.bosh.lang.as_str()), (2048, "de"));
    assert_eq!(b.route.as_deref(), Some("xmpp:b.example:5222"));
}
