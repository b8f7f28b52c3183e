//! `[proxy]`: its URL, its credentials, and what a domain inherits of it.

use insta::assert_snapshot;

use super::super::{Proxy, ProxySource};
use super::*;

fn proxy(text: &str) -> Proxy {
    config(&format!("[proxy]\n{text}")).proxy
}

fn proxy_errors(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|t| format!("[proxy]\n{t}")).collect();
    errors(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Scheme, host and port of the URL, with what was in front of the host.
fn url_of(text: &str) -> (String, Option<(String, String)>) {
    let proxy = proxy(&format!("url = '{text}'"));
    let ProxySource::Url(url) = &proxy.source else {
        return (format!("{:?}", proxy.source), None);
    };
    let credentials = shown(proxy.credentials.as_ref());
    (
        url.to_string(),
        credentials.map(|(user, password)| (user.into(), password.into())),
    )
}

#[test]
fn p13_url_forms() {
    for (text, url) in [
        ("http://proxy.example:3128", "http://proxy.example:3128/"),
        ("https://proxy.example", "https://proxy.example/"),
        ("HTTP://Proxy.example/", "http://proxy.example/"),
        ("socks5://[::1]:1080", "socks5://[::1]:1080"),
        ("socks5h://proxy.example", "socks5h://proxy.example"),
    ] {
        assert_eq!(url_of(text), (url.into(), None));
    }
    assert_eq!(proxy("url = 'none'").source, ProxySource::None);
    assert!(matches!(proxy("url = 'env'").source, ProxySource::Env(_)));
}

#[test]
fn url_forms_that_are_refused() {
    assert_snapshot!(proxy_errors(&[
        "url = 'htp://proxy.example:3128'",
        "url = 'socks://proxy.example'",
        "url = 'socks4://proxy.example'",
        "url = 'proxy.example:3128'",
        "url = 'proxy.example'",
        "url = 'None'",
        "url = ''",
        "url = 'http://'",
        "url = 'socks5://'",
        "url = 'socks5:proxy.example'",
        "url = 'http://proxy.example:99999'",
        "url = 'http://proxy.example/pac'",
    ]), @r#"
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url names no host
    config.toml:2:1: proxy.url names no host
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must end with the host and port
    "#);
}

#[test]
fn a_user_in_the_url_moves_to_the_credentials() {
    let with = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
    for (text, expected) in [
        ("http://juliet:secret@p.example", with("juliet", "secret")),
        ("http://juliet@p.example", with("juliet", "")),
        (
            "http://jul%40iet:p%3A%40%25%2F@p.example",
            with("jul@iet", "p:@%/"),
        ),
        ("http://juliet:p@ss@p.example", with("juliet", "p@ss")),
        ("http://juliet:100%@p.example", with("juliet", "100%")),
        ("socks5://juliet:p%C3%BC@p.example", with("juliet", "pü")),
    ] {
        let (url, credentials) = url_of(text);
        assert_eq!(credentials, expected, "{text}");
        assert!(!url.contains('@'), "{url}");
    }
}

#[test]
fn a_password_that_breaks_the_url_is_not_shown() {
    let text = proxy_errors(&[
        "url = 'http://juliet:zebra/12@p.example'",
        "url = 'http://juliet:zebra#12@p.example'",
        "url = 'http://juliet:zebra?12@p.example'",
        "url = 'http://juliet:12/zebra@p.example:3128'",
        "url = 'http://juliet:12#zebra@p.example:3128'",
        "url = 'http://juliet:12?zebra@p.example:3128'",
        "url = 'socks5://juliet:12/zebra@p.example:1080'",
        "url = 'juliet:zebra@p.example:3128'",
        "url = 'zebra@p.example:3128'",
        "url = 'htp://juliet:zebra@p.example:3128'",
        "url = 'http://juliet:zebra%ff@p.example'",
    ]);
    assert!(
        !text.contains("zebra") && !text.contains("juliet"),
        "{text}"
    );
    assert_snapshot!(text, @r#"
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must end with the host and port; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must end with the host and port; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must end with the host and port; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must end with the host and port; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:2:1: proxy.url has a user name or password that is not UTF-8; a password with special characters belongs into proxy.password, or percent-encoded into the URL
    "#);
}

#[test]
fn user_and_password_need_each_other() {
    assert_snapshot!(proxy_errors(&[
        "username = 'juliet'",
        "password = 'x'",
        "password_file = '/x'",
        "username = 'juliet'\npassword = 'x'\npassword_file = '/x'",
        "username = 'juliet'\npassword_file = '/x'\npassword_command = 'true'",
        "username = 'juliet'\npassword = 5",
        "username = 'juliet'\npassword = ['x']",
    ]), @"
    config.toml:2:1: proxy.username needs a password: set password, password_file or password_command beside it
    config.toml:2:1: proxy.password needs a user name: set username beside it
    config.toml:2:1: proxy.password_file needs a user name: set username beside it
    config.toml:4:1: proxy.password_file stands beside proxy.password; keep one of the two
    config.toml:4:1: proxy.password_command stands beside proxy.password_file; keep one of the two
    config.toml:3:1: proxy.password must be a string, not an integer
    config.toml:3:1: proxy.password must be a string, not a list
    ");
}

#[test]
fn the_keys_beat_the_url() {
    let proxy = proxy("url = 'http://romeo:old@p.example'\nusername = 'juliet'\npassword = 'new'");
    assert_eq!(shown(proxy.credentials.as_ref()), Some(("juliet", "new")));
}

/// P-16, and RFC 7617 for HTTP.
#[test]
fn p16_credentials_that_cannot_be_sent() {
    let long = "x".repeat(256);
    let most = "x".repeat(255);
    let pair = |url: &str, user: &str, password: &str| {
        format!("[proxy]\nurl = '{url}'\nusername = '{user}'\npassword = '{password}'")
    };
    let texts = [
        pair("http://p.example", "a:b", "x"),
        pair("https://p.example", "a:b", "x"),
        pair("socks5://p.example", &long, "x"),
        pair("socks5h://p.example", "juliet", &long),
        pair("socks5://p.example", "juliet", ""),
        "[proxy]\nurl = 'http://a%3Ab:x@p.example'".into(),
        "[proxy]\nurl = 'socks5://juliet@p.example'".into(),
        "[proxy]\nurl = 'none'\n[domains.'a.example'.proxy]\nurl = 'socks5://juliet@p.example'"
            .into(),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_snapshot!(errors(&texts), @r#"
    config.toml:3:1: proxy.username holds a colon, which HTTP Basic authentication cannot carry
    config.toml:3:1: proxy.username holds a colon, which HTTP Basic authentication cannot carry
    config.toml:3:1: proxy.username must have 1 to 255 bytes for a SOCKS5 proxy
    config.toml:4:1: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy
    config.toml:4:1: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy
    config.toml:2:1: proxy.url cannot be used: proxy.username holds a colon, which HTTP Basic authentication cannot carry
    config.toml:2:1: proxy.url cannot be used: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy
    config.toml:4:1: domains."a.example".proxy.url cannot be used: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy
    "#);
    config(&pair("socks5://p.example", &most, &most));
    config(&pair("socks5://p.example", "a:b", "x"));
    config(&pair("http://p.example", &long, &long));
}

#[test]
fn a_domain_inherits_the_proxy_but_never_credentials_for_another() {
    let config = config(
        "[proxy]\nurl = 'http://p.example:3128'\nusername = 'juliet'\npassword = 'secret'\n\
         no_proxy = ['a']\nca_file = '/roots.pem'\n\
         [domains.'same.example']\n\
         [domains.'exceptions.example'.proxy]\nno_proxy = ['b']\n\
         [domains.'again.example'.proxy]\nurl = 'http://p.example:3128/'\n\
         [domains.'other.example'.proxy]\nurl = 'http://q.example:3128'\n\
         [domains.'port.example'.proxy]\nurl = 'http://p.example:3129'\n\
         [domains.'scheme.example'.proxy]\nurl = 'https://p.example:3128'\n\
         [domains.'environment.example'.proxy]\nurl = 'env'\n\
         [domains.'direct.example'.proxy]\nurl = 'none'\n\
         [domains.'own.example'.proxy]\nusername = 'romeo'\npassword = 'own'",
    );
    let of = |name: &str| &config.domains[name].proxy;
    let user = |name: &str| shown(of(name).credentials.as_ref());
    for name in ["same.example", "exceptions.example", "again.example"] {
        assert_eq!(user(name), Some(("juliet", "secret")), "{name}");
        assert_eq!(of(name).source, config.proxy.source);
    }
    for name in [
        "other.example",
        "port.example",
        "scheme.example",
        "environment.example",
        "direct.example",
    ] {
        assert_eq!(user(name), None, "{name}");
        assert_ne!(of(name).source, config.proxy.source);
    }
    assert_eq!(user("own.example"), Some(("romeo", "own")));
    assert_eq!(of("own.example").source, config.proxy.source);
    assert_eq!(of("direct.example").source, ProxySource::None);
    assert_eq!(of("exceptions.example").no_proxy, ["b"]);
    assert_eq!(of("other.example").no_proxy, ["a"]);
    assert_eq!(
        of("other.example").ca_file.as_deref(),
        Some(Path::new("/roots.pem"))
    );
}

#[test]
fn userinfo_of_the_url_is_not_inherited_by_another() {
    let config = config(
        "[proxy]\nurl = 'http://juliet:secret@p.example'\n\
         [domains.'same.example']\n\
         [domains.'other.example'.proxy]\nurl = 'http://q.example'",
    );
    let user = |name: &str| shown(config.domains[name].proxy.credentials.as_ref());
    assert_eq!(user("same.example"), Some(("juliet", "secret")));
    assert_eq!(user("other.example"), None);
}

#[test]
fn secrets_of_a_domain_are_named_by_their_table() {
    assert_snapshot!(errors(&[
        "[domains.'a.example'.proxy]\nusername = 'x'",
        "[domains.'a.example'.proxy]\nurl = 'ftp://x'",
        "[domains.'a.example'.proxy]\nusername = 'x'\npassword_command = 'exit 3'",
    ]), @r#"
    config.toml:2:1: domains."a.example".proxy.username needs a password: set password, password_file or password_command beside it
    config.toml:2:1: domains."a.example".proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    config.toml:3:1: domains."a.example".proxy.password_command failed (exit status: 3)
    "#);
}
