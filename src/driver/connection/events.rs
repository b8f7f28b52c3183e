//! What the bridge has to say to the program around it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::clock;
use super::super::endpoint::{Resolved, redirect_target};
use super::super::pace::{TooMany, Visitor};
use super::{Connection, Manager, plain};
use crate::bridge;
use crate::stream::error::FaultReason;

impl Connection {
    pub(super) fn on_event(&mut self, event: bridge::Event) {
        match event {
            bridge::Event::Resolve { domain } => self.on_resolve(&domain),
            bridge::Event::Elsewhere(fault) => self.on_elsewhere(&fault.to_string()),
            bridge::Event::Redirect { status, location } => self.on_redirect(status, &location),
            bridge::Event::Tls { received } => self.turn(received),
            bridge::Event::Bound => {
                if let (Some(domain), Some(tls)) = (self.bridge.domain(), &self.shared.local_tls) {
                    tls.used(domain);
                }
                if let Some(ticket) = &mut self.ticket {
                    ticket.bound(clock::now());
                }
                tracing::info!(client = %self.peer, domain = self.bridge.domain(), "client is online");
                // The one of the beginning may be too old: a password takes time to type.
                self.warm();
            }
            bridge::Event::Filtered(removed) => {
                let what = crate::stream::features::why(&removed);
                if let Some(domain) = self.bridge.domain()
                    && self.shared.told.is_news(domain, &what)
                {
                    tracing::info!(domain, "not offered to clients: {what}");
                }
            }
            bridge::Event::Resumable { id, user } => {
                let (door, visitors) = mpsc::unbounded_channel();
                self.door = Some(visitors);
                self.shared.registry.add(id, self.owner(user), door);
            }
            bridge::Event::Resume { previd, h, user } => self.on_resume(previd, h, user),
            bridge::Event::Over { id, remains } => {
                self.shared.registry.remove(id, remains, clock::now());
                self.close_door();
            }
            bridge::Event::Cut(limit) => {
                tracing::info!(
                    domain = self.bridge.domain(),
                    seconds = limit.as_secs(),
                    "something on the way cuts long polls: they are kept shorter from now on"
                );
                self.was_cut = true;
                if let Some(manager) = &self.manager {
                    self.shared.endpoints.habits().cut(&manager.way, limit);
                }
            }
            bridge::Event::Moved { location } => {
                if let Some(manager) = &self.manager
                    && let Some(url) = redirect_target(&manager.resolved.url, None, &location)
                    && let Some(domain) = self.bridge.domain()
                {
                    tracing::info!(domain, to = %plain(&url), "later sessions go elsewhere");
                    self.shared.endpoints.moved(domain, url);
                }
            }
            bridge::Event::Fault(fault) => {
                let domain = self.bridge.domain();
                if !self.bridge.was_opened()
                    && let Some(domain) = domain
                {
                    self.shared.endpoints.not_moved(domain);
                    if let Some(manager) = &self.manager
                        && manager.resolved.discovered
                    {
                        self.shared.endpoints.avoid(&manager.resolved.url);
                        self.shared.endpoints.forget(domain);
                    }
                }
                self.seat.facts().note_error(&fault.to_string());
                if fault.reason != FaultReason::Shutdown {
                    self.seat.failed();
                }
                match fault.reason {
                    FaultReason::Shutdown => {
                        tracing::debug!(client = %self.peer, domain, "stream ended: {fault}")
                    }
                    _ => tracing::warn!(client = %self.peer, domain, "stream ended: {fault}"),
                }
            }
        }
    }

    fn on_resolve(&mut self, domain: &str) {
        let (shared, domain) = (Arc::clone(&self.shared), domain.to_owned());
        let visitor = Visitor::new(&self.peer, self.bridge.header(), self.bridge.is_secure());
        let turn = shared.pace.ask(&domain, visitor);
        self.ticket
            .get_or_insert_with(|| shared.pace.ticket(&domain))
            .add(visitor);
        self.resolving = Some(Box::pin(async move {
            if let Err(TooMany) = turn.await {
                return Err((FaultReason::TooManySessions, String::new()));
            }
            shared.endpoints.resolve(&domain).await
        }));
    }

    pub(super) fn on_resolved(&mut self, resolved: Result<Resolved, (FaultReason, String)>) {
        if let (Some(ticket), Err((FaultReason::TooManySessions, _))) =
            (&mut self.ticket, &resolved)
        {
            ticket.refused();
        }
        let answer = resolved.map(|resolved| {
            let domain = self.bridge.domain().unwrap_or_default();
            let endpoints = &self.shared.endpoints;
            let way = format!("{domain} {}", resolved.url.authority());
            let mut endpoint = resolved.endpoint.clone();
            endpoint.bosh.wait = endpoints.habits().wait(&way, endpoint.bosh.wait);
            endpoint.way = endpoints.habits().way(&way, endpoint.way);
            if resolved.discovered {
                tracing::debug!(domain, url = %plain(&resolved.url), "connection manager found");
            }
            let client = endpoints.client(&resolved.url, &resolved);
            let mut facts = self.seat.facts();
            facts.stream.url = Some(plain(&resolved.url));
            facts.stream.way = Some(resolved.way());
            drop(facts);
            self.manager = Some(Manager {
                client,
                resolved,
                way,
            });
            endpoint
        });
        self.bridge.handle_endpoint(answer, clock::now());
    }

    /// No session at this address: the domain has named another (D-06).
    pub(super) fn on_elsewhere(&mut self, why: &str) {
        let Some(domain) = self.bridge.domain().map(str::to_owned) else {
            return;
        };
        if let Some(manager) = self.manager.take() {
            tracing::info!(client = %self.peer, domain, url = %plain(&manager.resolved.url), "trying another address: {why}");
            self.shared.endpoints.avoid(&manager.resolved.url);
        }
        self.flying.clear();
        for (_, running) in self.aborts.drain(..) {
            running.abort();
        }
        self.on_resolve(&domain);
    }

    fn on_redirect(&mut self, status: Option<u16>, location: &str) {
        let now = clock::now();
        let Some(manager) = &mut self.manager else {
            return;
        };
        match redirect_target(&manager.resolved.url, status, location) {
            Some(url) => {
                let (from, to) = (plain(&manager.resolved.url), plain(&url));
                tracing::info!(client = %self.peer, %from, %to, "connection manager moved");
                manager.client = self.shared.endpoints.client(&url, &manager.resolved);
                manager.resolved.url = url;
                self.bridge.handle_redirect(true, None, now);
            }
            None => self
                .bridge
                .handle_redirect(false, Some(location.to_owned()), now),
        }
    }
}
