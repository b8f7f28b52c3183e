//! stub
#![allow(missing_docs, unused)]
#[derive(Clone, Debug)]
pub struct Connector;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ConnectError;
impl Connector { pub fn new(p: &crate::config::Proxy, t: &crate::config::Tls) -> Result<Self, ConnectError> { Ok(Self) } }
