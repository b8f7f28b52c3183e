//! The XMPP server behind a manager's session, and the account of what went through.

use std::collections::VecDeque;

use crate::request::Request;

/// What a server does wrong on purpose, so that the checks are seen to bite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A stanza for the client is thrown away.
    DropDown,
    /// A stanza for the client is sent twice.
    DoubleDown,
    /// Two stanzas for the client change places.
    SwapDown,
    /// A stanza of the client is thrown away.
    DropUp,
    /// A stanza of the client is processed twice.
    DoubleUp,
    /// Nothing is ever held: polls are answered at once.
    Hasty,
}

/// The stanza that a mutation spoils.
const SPOILT: u32 = 5;

/// Something the server will have for the client after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    Features,
    Success,
    Result,
}

/// One stream on the server.
#[derive(Debug)]
pub(crate) struct Server {
    mutation: Option<Mutation>,
    /// Numbers of the client's stanzas, as they were processed.
    pub(crate) processed: Vec<u32>,
    /// What is on its way to the client and not in an answer yet.
    pub(crate) pending: VecDeque<String>,
    /// How many stanzas it ever had for the client. They are numbered from 0.
    pub(crate) pushed: u32,
    /// What it owes the client.
    pub(crate) owed: Vec<Later>,
}

impl Server {
    pub(crate) fn new(mutation: Option<Mutation>) -> Self {
        Self {
            mutation,
            processed: Vec::new(),
            pending: VecDeque::new(),
            pushed: 0,
            owed: Vec::new(),
        }
    }

    /// Takes what a request brings.
    pub(crate) fn take(&mut self, request: &Request) {
        for up in &request.stanzas {
            let copies = match self.mutation {
                Some(Mutation::DropUp) if up.number == SPOILT => 0,
                Some(Mutation::DoubleUp) if up.number == SPOILT => 2,
                _ => 1,
            };
            for _ in 0..copies {
                self.processed.push(up.number);
            }
            match up.name.as_str() {
                "auth" => self.owed.push(Later::Success),
                "iq" => self.owed.push(Later::Result),
                _ => {}
            }
        }
        if request.restart {
            self.owed.push(Later::Features);
        }
    }

    /// Puts something into the way to the client.
    pub(crate) fn say(&mut self, what: Option<Later>) {
        let number = self.pushed;
        self.pushed += 1;
        let stanza = match what {
            Some(Later::Features) => format!("<stream:features id='d{number}'/>"),
            Some(Later::Success) => {
                format!("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl' id='d{number}'/>")
            }
            Some(Later::Result) => format!(
                "<iq xmlns='jabber:client' type='result' from='example.org' id='d{number}'/>"
            ),
            None => format!("<message xmlns='jabber:client' from='b@example.org' id='d{number}'/>"),
        };
        match self.mutation {
            Some(Mutation::DropDown) if number == SPOILT => return,
            Some(Mutation::DoubleDown) if number == SPOILT => {
                self.pending.push_back(stanza.clone());
            }
            Some(Mutation::SwapDown) if number == SPOILT => {
                // Ahead of its elder, if that one is still here; else of itself a second time.
                let at = self.pending.len().saturating_sub(1);
                let elder = format!(
                    "<message xmlns='jabber:client' from='b@example.org' id='d{}'/>",
                    number + 1
                );
                self.pending.insert(at, elder);
                self.pending.push_back(stanza);
                self.pushed += 1;
                return;
            }
            _ => {}
        }
        self.pending.push_back(stanza);
    }

    /// Everything that is on its way.
    pub(crate) fn drain(&mut self) -> String {
        self.pending.drain(..).collect()
    }

    pub(crate) fn take_owed(&mut self) -> Vec<Later> {
        std::mem::take(&mut self.owed)
    }

    /// Says what it owes at once.
    pub(crate) fn settle(&mut self) {
        for later in self.take_owed() {
            self.say(Some(later));
        }
    }

    /// Whether it has something for the client and nobody to tell.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}
