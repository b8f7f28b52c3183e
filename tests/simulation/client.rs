//! The naive client: it logs in, says what it is told to say, and counts what comes.

use std::collections::HashSet;

use bytes::Bytes;
use xbosh::bosh::{PayloadClass, Session};
use xbosh::xml::Element;

use crate::world::Excuses;

/// How far the login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits for features, or is about to send its password.
    Auth,
    /// Waits for success.
    Success,
    /// Waits for the new stream's features, or is about to bind.
    Bind,
    /// Waits for its address.
    Binding,
    Bound,
}

/// What the client wants to do after it has seen something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Auth,
    Bind,
    Bound,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stage: Stage,
    /// Stanzas said. They are numbered from 0.
    pub(crate) said: u32,
    /// The number that the next stanza from the server should have.
    pub(crate) expected: u32,
    seen: HashSet<u32>,
    /// Numbers of features that went with the answer to a restart.
    lost_features: HashSet<u32>,
    /// The first that never came, though later ones did.
    pub(crate) gap: Option<String>,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Auth,
            said: 0,
            expected: 0,
            seen: HashSet::new(),
            lost_features: HashSet::new(),
            gap: None,
        }
    }

    /// Says one stanza.
    pub(crate) fn say(
        &mut self,
        session: &mut Session,
        name: &str,
        filler: usize,
        class: PayloadClass,
    ) {
        let number = self.said;
        self.said += 1;
        let text = match name {
            "auth" => format!(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN' id='u{number}'>AA</auth>"
            ),
            _ => format!(
                "<{name} xmlns='jabber:client' to='b@example.org' type='get' id='u{number}'><x xmlns='x'>{}</x></{name}>",
                "x".repeat(filler)
            ),
        };
        session.send(Bytes::from(text), class);
    }

    /// Something came.
    pub(crate) fn receive(
        &mut self,
        element: &Element,
        session: &mut Session,
        excuses: Excuses,
    ) -> Result<Option<Step>, String> {
        let id = element.attr("id").unwrap_or_default().into_owned();
        let number: u32 = id
            .strip_prefix('d')
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("the client's own stanza {id} came back"))?;
        if !self.seen.insert(number) {
            return Err(format!("d{number} came again"));
        }
        if excuses.disorder_down {
            self.expected = self.expected.max(number + 1);
            return Ok(self.step(element.local(), session));
        }
        if number < self.expected {
            return Err(format!("d{number} came late: d{} was next", self.expected));
        }
        if number > self.expected && !excuses.loss && self.gap.is_none() {
            self.gap = Some(format!("d{number} came, d{} never did", self.expected));
        }
        self.expected = number + 1;
        self.pass_over();
        Ok(self.step(element.local(), session))
    }

    /// Openfire does not keep its answer to a restart: these features are lost, and another restart brings others.
    pub(crate) fn never_comes(&mut self, answer: &str) {
        let number: Option<u32> = answer
            .split_once("<stream:features id='d")
            .and_then(|(_, rest)| rest.split_once('\''))
            .and_then(|(digits, _)| digits.parse().ok());
        self.lost_features.extend(number);
        self.pass_over();
    }

    fn pass_over(&mut self) {
        while self.lost_features.contains(&self.expected) {
            self.expected += 1;
        }
    }

    fn step(&mut self, name: &str, session: &mut Session) -> Option<Step> {
        match (self.stage, name) {
            (Stage::Auth, "features") => {
                self.stage = Stage::Success;
                Some(Step::Auth)
            }
            (Stage::Success, "success") => {
                self.stage = Stage::Bind;
                session.restart();
                None
            }
            (Stage::Bind, "features") => {
                self.stage = Stage::Binding;
                Some(Step::Bind)
            }
            (Stage::Binding, "iq") => {
                self.stage = Stage::Bound;
                session.bound();
                Some(Step::Bound)
            }
            _ => None,
        }
    }
}
