//! Where requests go, and what is the same in all of them.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Uri, Version};
use url::{Position, Url};

use crate::connect;

/// The connection manager's URL, taken apart once for all requests.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) url: Url,
    origin: Uri,
    absolute: Uri,
    headers: HeaderMap,
}

impl Target {
    /// The connection manager's URL; its query is kept, its fragment and userinfo are not sent.
    #[must_use]
    pub fn new(mut url: Url) -> Self {
        url.set_fragment(None);
        // Fails only for URLs without host, which have no userinfo either.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let origin = parse_uri(&url[Position::BeforePath..Position::AfterQuery]);
        let absolute = parse_uri(url.as_str());
        let headers = headers(&url);
        Self {
            url,
            origin,
            absolute,
            headers,
        }
    }

    /// host:port.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(443);
        connect::authority(host.trim_matches(['[', ']']), port)
    }

    /// The absolute form of the request target.
    pub(super) fn absolute(&self) -> &str {
        self.url.as_str()
    }

    /// A POST of `length` bytes as the head of an HTTP/2 stream; the URL's host is in `:authority`, not in
    /// `Host` (RFC 9113 section 8.3.1).
    pub(super) fn stream_request(&self, length: usize) -> Request<()> {
        let mut request = self.request((), length, true);
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        request
    }

    /// A POST of `length` bytes; absolute-form (P-01) if a proxy takes it.
    pub(super) fn request<B>(&self, body: B, length: usize, to_proxy: bool) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = if to_proxy {
            self.absolute.clone()
        } else {
            self.origin.clone()
        };
        *request.headers_mut() = self.headers.clone();
        let length = HeaderValue::from(length);
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
        request
    }
}

/// B-03, B-04, B-08, cm-quirks rule 3: no `Expect`, no `Connection`, nothing that names us but a version.
fn headers(url: &Url) -> HeaderMap {
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort])
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    let mut headers = HeaderMap::with_capacity(7);
    headers.insert(header::HOST, host);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/xml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
        (header::ACCEPT_ENCODING, "gzip"),
        (
            header::USER_AGENT,
            concat!("xbosh/", env!("CARGO_PKG_VERSION")),
        ),
        (header::CONTENT_LENGTH, "0"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn parse_uri(text: &str) -> Uri {
    // A parsed URL is ASCII and has a path: it is a URI as well.
    text.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(Url::parse(url).unwrap())
    }

    /// P-01, cm-quirks rule 3: both forms of the request target keep the query; Host is the URL's.
    #[test]
    fn p01_forms() {
        let target = target("http://u:s3cret@cm.example:5280/http-bind?room=a&t=%20b#x");
        let origin = target.request((), 7, false);
        assert_eq!(origin.uri(), "/http-bind?room=a&t=%20b");
        assert_eq!(origin.headers()["host"], "cm.example:5280");
        assert_eq!(origin.headers()["content-length"], "7");
        let absolute = target.request((), 7, true);
        assert_eq!(
            absolute.uri(),
            "http://cm.example:5280/http-bind?room=a&t=%20b"
        );
        assert!(!format!("{target:?}").contains("s3cret"));
    }

    /// The scheme's own port is not in Host; brackets stay.
    #[test]
    fn host_and_authority() {
        let target = target("https://[::1]:443/b");
        assert_eq!(target.request((), 0, false).headers()["host"], "[::1]");
        assert_eq!(target.authority(), "[::1]:443");
    }
}
