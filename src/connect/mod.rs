//! Ways out: direct, HTTP proxy, SOCKS5, with TLS.
