//! Exchanges with the manager: begun, written, answered, given up.

use std::time::Instant;

use futures_util::future::{AbortHandle, Abortable, Aborted, FutureExt as _};

use super::super::clock;
use super::{Connection, Sent};
use crate::bosh::{Failure, HttpReply, Request, RequestKey};
use crate::http::ExchangeRequest;

impl Connection {
    pub(super) fn start_and_abort(&mut self) {
        while let Some(key) = self.bridge.poll_abort() {
            if let Some(at) = self.aborts.iter().position(|(known, _)| *known == key) {
                self.aborts.swap_remove(at).1.abort();
            }
        }
        while let Some(request) = self.bridge.poll_request(clock::now()) {
            self.start(request);
        }
    }

    fn start(&mut self, request: Request) {
        let Some(manager) = &self.manager else { return };
        let key = request.key;
        let mut facts = self.seat.facts();
        facts.stream.exchanges += 1;
        facts.stream.repeats += u64::from(key.attempt > 1);
        drop(facts);
        let (written, repeated) = (self.written_tx.clone(), self.written_tx.clone());
        let exchange = manager.client.exchange(ExchangeRequest {
            body: request.body,
            fresh: request.fresh,
            written: Box::new(move || {
                // The receiver lives as long as this task.
                let _ = written.send(Sent::Whole(key));
            }),
            repeated: Box::new(move || {
                let _ = repeated.send(Sent::Again(key));
            }),
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.aborts.push((key, handle));
        let exchange = Abortable::new(exchange, registration);
        self.running
            .push(Box::pin(exchange.map(move |result| (key, result))));
    }

    /// Has a second connection opened ahead of need (T-37): what the client says next then leaves at once, in order,
    /// and after the TLS tickets of its connection are acknowledged. A failure is met again by who needs it.
    pub(super) fn warm(&self) {
        if let Some(manager) = &self.manager {
            manager.client.warm();
        }
    }

    pub(super) fn on_sent(&mut self, sent: Sent) {
        match sent {
            Sent::Whole(key) => {
                let now = clock::now();
                self.flying.push((key, now));
                self.bridge.handle_written(key, now);
                // The way has just proved good: at the beginning, or after a connection was lost.
                if !self.bridge.was_opened() || key.attempt > 1 {
                    self.warm();
                }
            }
            Sent::Again(key) => {
                self.bridge.handle_repeated(key);
                // It takes a connection that is opened now; the one beside it may be dead as well.
                self.warm();
            }
        }
    }

    pub(super) fn on_finished(
        &mut self,
        key: RequestKey,
        result: Result<Result<HttpReply, Failure>, Aborted>,
    ) {
        self.aborts.retain(|(known, _)| *known != key);
        // A reply implies that the request was written, whichever is seen first.
        while let Ok(sent) = self.written_rx.try_recv() {
            self.on_sent(sent);
        }
        let now = clock::now();
        match result {
            Ok(Ok(reply)) => {
                if let Some(ticket) = &mut self.ticket
                    && reply.status < 500
                {
                    ticket.answered();
                }
                self.bridge.handle_response(key, &reply, now);
                self.note_round_trip(key, now);
                self.note_http();
            }
            Ok(Err(failure)) => {
                self.seat.facts().note_error(&failure.text);
                tracing::debug!(client = %self.peer, domain = self.bridge.domain(), "exchange failed: {}", failure.text);
                if !failure.sent && self.bridge.may_go_elsewhere() {
                    self.bridge.go_elsewhere();
                    return self.on_elsewhere(&failure.text);
                }
                self.bridge.handle_failure(key, failure, now);
            }
            Err(Aborted) => {}
        }
        self.flying.retain(|(known, _)| *known != key);
    }

    /// An answer came, brought about by the oldest request that is newer; without one, by the request itself,
    /// unless it was held: then it took much longer than the way does.
    fn note_round_trip(&mut self, key: RequestKey, now: Instant) {
        let newer = self.flying.iter().filter(|(other, _)| other.rid > key.rid);
        let newer = newer.min_by_key(|(other, _)| other.rid);
        let own = self.flying.iter().find(|(other, _)| *other == key);
        let held = self.bridge.round_trip().unwrap_or_default() * 4;
        let time = match (newer, own) {
            (Some((_, at)), _) => now.saturating_duration_since(*at),
            (None, Some((_, at))) => now.saturating_duration_since(*at),
            (None, None) => return,
        };
        if newer.is_some() || time <= held {
            self.seat.facts().note_round_trip(time);
        }
    }

    /// In which HTTP version the manager answers.
    fn note_http(&mut self) {
        let version = self.manager.as_ref().and_then(|m| m.client.http_version());
        let mut facts = self.seat.facts();
        if facts.stream.http.as_deref() != version {
            facts.stream.http = version.map(str::to_owned);
        }
    }
}
