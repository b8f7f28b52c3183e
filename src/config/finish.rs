//! From the settings to the configuration: what fits together, what domains inherit.

use url::{Host, Url};

use super::draft::{DomainDraft, Draft};
use super::error::ConfigError;
use super::proxy::Finish;
use super::value::display_path;
use super::{Config, Domain, ListenAddress, Proxy};

/// Checks everything together and fills in what domains inherit.
pub(super) fn finish(
    draft: &Draft,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<Config, ConfigError> {
    check_listen(draft, warnings)?;
    check_limits(draft)?;
    check_names(draft, warnings)?;
    let mut config = draft.config.clone();
    config.status.socket = match &draft.status_socket {
        Some(socket) => socket.clone(),
        // The XDG base directory specification has relative paths ignored.
        None => super::environment::variable(environment, "XDG_RUNTIME_DIR")
            .map(std::path::PathBuf::from)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("xbosh.sock")),
    };
    if config.tls.client_cert.is_some() != config.tls.client_key.is_some() {
        let keys = ["tls.client_cert", "tls.client_key"];
        let missing = if config.tls.client_key.is_none() {
            "client_key"
        } else {
            "client_cert"
        };
        return Err(draft.conflict(&keys, format!("needs {missing} beside it")));
    }
    let mut proxies = Finish {
        draft,
        environment,
        warnings,
    };
    config.proxy = proxies.proxy(&draft.proxy, &Proxy::default(), "proxy")?;
    for (name, domain) in &draft.domains {
        let table = |key: &str| display_path(&["domains".into(), name.clone(), key.into()]);
        let proxy = match &domain.proxy {
            Some(own) => proxies.proxy(own, &config.proxy, &table("proxy"))?,
            None => config.proxy.clone(),
        };
        let settings = Domain {
            url: cm_url(draft, domain, &table("url"))?,
            route: domain.route.clone(),
            tls: config.tls.with(domain),
            bosh: config.bosh.with(domain),
            proxy,
        };
        config.domains.insert(name.clone(), settings);
    }
    Ok(config)
}

fn check_listen(draft: &Draft, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let config = &draft.config;
    let wrong = |what: String| draft.conflict(&["listen"], what);
    if config.listen.is_empty() {
        return Err(wrong("is empty: it must hold at least one address".into()));
    }
    let twice = |(index, address): &(usize, &ListenAddress)| {
        !address.may_repeat() && config.listen[..*index].contains(address)
    };
    if let Some((_, address)) = config.listen.iter().enumerate().find(twice) {
        return Err(wrong(format!("has {address} twice")));
    }
    for address in config.listen.iter().filter(|a| a.is_remote()) {
        if !config.allow_remote_clients {
            return Err(ConfigError::Remote {
                place: draft.place("listen"),
                address: address.clone(),
            });
        }
        warnings.push(config.remote_warning(address));
    }
    Ok(())
}

fn check_limits(draft: &Draft) -> Result<(), ConfigError> {
    let limits = &draft.config.limits;
    for (key, bytes) in [
        ("limits.max_response_bytes", limits.max_response_bytes),
        ("limits.buffer_bytes", limits.buffer_bytes),
    ] {
        if bytes < limits.max_stanza_bytes {
            let what = format!(
                "must not be below limits.max_stanza_bytes ({})",
                limits.max_stanza_bytes
            );
            // With the smaller one left at its default, the larger one is to blame.
            return Err(match draft.is_set(key) {
                true => draft.conflict(&[key], what),
                false => draft.conflict(
                    &["limits.max_stanza_bytes"],
                    format!("must not be above {key} ({bytes})"),
                ),
            });
        }
    }
    Ok(())
}

/// Names that can never be reached.
fn check_names(draft: &Draft, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let Some(allowed) = &draft.config.allowed_domains else {
        return Ok(());
    };
    if let Some(domain) = &draft.config.default_domain
        && !allowed.contains(domain)
    {
        let what = format!("is {domain:?}, which allowed_domains does not hold");
        return Err(draft.conflict(&["default_domain"], what));
    }
    for domain in draft.domains.keys() {
        if !allowed.contains(domain) {
            warnings.push(format!(
                "allowed_domains does not hold {domain:?}: clients cannot use its settings"
            ));
        }
    }
    Ok(())
}

/// B-70: https, or http where it cannot be overheard or is asked for.
fn cm_url(draft: &Draft, domain: &DomainDraft, key: &str) -> Result<Option<Url>, ConfigError> {
    let Some(text) = &domain.url else {
        return Ok(None);
    };
    let wrong = |what: String| draft.conflict(&[key], what);
    // Without its value: it could hold a password.
    let form = || wrong("must be a URL like https://example.org/http-bind".into());
    let mut url = Url::parse(text).map_err(|_| form())?;
    let private = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".onion"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(form()),
    };
    if !matches!(url.scheme(), "https" | "http") {
        return Err(wrong(format!("has scheme {}; use https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a user name or password".into()));
    }
    if url.scheme() == "http" && !private && !domain.allow_plain_http {
        return Err(ConfigError::PlainHttp {
            place: draft.place(key),
            key: key.to_owned(),
        });
    }
    // Never sent.
    url.set_fragment(None);
    Ok(Some(url))
}
