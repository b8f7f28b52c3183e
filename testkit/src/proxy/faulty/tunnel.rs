//! What becomes of a tunnel: the proxy sees bytes that it cannot read. What comes from the client in one piece counts as
//! a request, the next piece from the origin as its answer.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::serve::{Connection, End};
use crate::http1::Message;
use crate::proxy::origin::{page, reset};
use crate::proxy::{FaultKind, ProxyOptions};

/// Most bytes that count as one piece.
const PIECE: usize = 64 * 1024;

impl Connection {
    /// A CONNECT request.
    pub(super) async fn tunnel(&mut self, request: &Message) -> End {
        let target = request.line.split(' ').nth(1).unwrap_or_default();
        let address = target
            .rsplit_once(':')
            .and_then(|(host, port)| ProxyOptions::default().address(host, port.parse().ok()?));
        let origin = match address {
            Some(address) => TcpStream::connect(address).await.ok(),
            None => None,
        };
        let Some(mut origin) = origin else {
            page(&mut self.client, "503 Service Unavailable").await;
            return End::Close;
        };
        // A lost nodelay costs latency only.
        let _ = origin.set_nodelay(true);
        let opened = b"HTTP/1.1 200 Connection established\r\n\r\n";
        if self.client.write_all(opened).await.is_err() {
            return End::Close;
        }
        let early = self.buffer.split();
        if origin.write_all(&early).await.is_err() {
            return End::Close;
        }
        let end = self.relay(&mut origin).await;
        if matches!(end, End::Reset) {
            reset(&origin);
        }
        end
    }

    /// Passes pieces on until either side is done or a fault ends it.
    async fn relay(&mut self, origin: &mut TcpStream) -> End {
        let (mut up, mut down) = (vec![0; PIECE], vec![0; PIECE]);
        // What hits the next answer.
        let mut fault = None;
        loop {
            tokio::select! {
                read = self.client.read(&mut up) => {
                    let Ok(count @ 1..) = read else { return End::Close };
                    let piece = &up[..count];
                    let lot = self.shared.draw();
                    match lot {
                        Some(FaultKind::ResetBefore) => {
                            self.shared.hit("tunnel", "reset before");
                            return End::Reset;
                        }
                        Some(FaultKind::ResetDuring) => {
                            // It is reset in any case.
                            let _ = origin.write_all(&piece[..count / 2]).await;
                            self.shared.hit("tunnel", "reset during");
                            return End::Reset;
                        }
                        Some(FaultKind::Blackhole) => {
                            self.shared.hit("tunnel", "swallowed");
                            self.until_client_leaves().await;
                            return End::Close;
                        }
                        other => fault = fault.or(other),
                    }
                    if origin.write_all(piece).await.is_err() {
                        return End::Close;
                    }
                }
                read = origin.read(&mut down) => {
                    let Ok(count @ 1..) = read else { return End::Close };
                    let piece = &down[..count];
                    match fault.take() {
                        Some(FaultKind::ResetAfter) => {
                            self.shared.hit("tunnel", "reset, answer lost");
                            return End::Reset;
                        }
                        Some(FaultKind::CutAnswer) => {
                            self.shared.hit("tunnel", "half of the answer");
                            // It is reset in any case.
                            let _ = self.client.write_all(&piece[..count / 2]).await;
                            return End::Reset;
                        }
                        Some(FaultKind::CloseIdle) => {
                            self.shared.hit("tunnel", "closed behind the answer");
                            // It is closed in any case.
                            let _ = self.client.write_all(piece).await;
                            return End::Close;
                        }
                        _ => {}
                    }
                    if self.client.write_all(piece).await.is_err() {
                        return End::Close;
                    }
                }
            }
        }
    }
}
