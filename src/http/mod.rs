//! stub
#![allow(missing_docs, unused)]
use crate::bosh::{HttpReply, Failure};
#[derive(Clone, Debug, Default)]
pub struct ClientOptions { pub max_response_bytes: usize }
#[derive(Clone, Debug)]
pub struct Target(url::Url);
impl Target { pub fn new(u: url::Url) -> Self { Self(u) } }
#[derive(Clone, Debug)]
pub struct SessionClient;
pub struct ExchangeRequest { pub body: bytes::Bytes, pub fresh: bool, pub written: Box<dyn FnOnce() + Send> }
impl SessionClient { pub fn new(t: Target, c: crate::connect::Connector, o: ClientOptions) -> Self { Self }
 pub fn exchange(&self, r: ExchangeRequest) -> impl Future<Output = Result<HttpReply, Failure>> + Send + 'static { async { todo!() } } }
