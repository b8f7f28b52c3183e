//! What goes wrong on the way, on command.

use std::time::Duration;

/// One fault.
#[derive(Clone, Debug)]
pub enum Fault {
    // Before the manager sees the request.
    /// The request is lost: the connection closes, the manager never sees it.
    LoseRequest,
    /// Nothing is ever answered; the manager does not see the request.
    Silence,
    /// A reply with this status, these header lines and this body in place of the manager's.
    Reply {
        /// Status and reason.
        status: &'static str,
        /// Header lines, each ending in `\r\n`.
        headers: String,
        /// Body.
        body: String,
    },
    /// These very bytes in place of a reply, then the connection closes.
    Raw(Vec<u8>),
    /// The connection is reset; the manager never sees the request.
    Reset,
    /// `type='error'`: the manager asks for the request again.
    RecoverableError,
    /// The body is processed by nobody and the session ended with this.
    Terminate {
        /// Attributes of the body besides type, as they stand.
        attributes: String,
        /// Its content.
        inner: String,
    },

    // The manager has processed the request.
    /// The connection closes in place of the answer.
    LoseAnswer,
    /// The connection closes at once; the manager does not notice and goes on with the request.
    Vanish,
    /// Nothing is ever answered.
    SilenceAfter,
    /// An answer that takes longer than this is a middle box's 504 instead; the manager still holds the request.
    CutPoll(Duration),
    /// The reply is cut after so many bytes of the message, and the connection closes.
    Truncate(usize),
    /// As above, but the connection is reset.
    ResetAt(usize),
    /// The reply comes later.
    Delay(Duration),
    /// The reply comes after the manager's next one, or a fifth of a second later if there is none.
    AfterNext,
    /// `Connection: close` and then the close.
    Close,
    /// The connection closes without notice after the reply.
    CloseSilently,
    /// The connection is kept, and closes on the first byte of the next request.
    CloseAtNext,
    /// The reply in chunked coding.
    Chunked,
    /// The reply as HTTP/1.0 without length, ended by the close.
    Http10,
    /// An interim reply first.
    Interim,
    /// Header names in lower case.
    LowerCase,
    /// Another type.
    ContentType(&'static str),
    /// More header lines, each ending in `\r\n`.
    Headers(String),
    /// The reply compressed.
    Gzip,
    /// Only the first bytes of a compressed reply, with a length that fits.
    BrokenGzip,
    /// A compressed reply with one more message, of so many bytes.
    GzipBomb(usize),
    /// A reply with one more message, of so many bytes.
    Oversized(usize),
    /// More attributes on the reply's body, as they stand.
    Attributes(String),
    /// The reply's body as this makes it.
    Rewrite(fn(&str) -> String),
}

impl Fault {
    /// A status with a page, as middle boxes send.
    #[must_use]
    pub fn page(status: &'static str) -> Self {
        Self::Reply {
            status,
            headers: String::new(),
            body: format!("<html><body><h1>{status}</h1></body></html>"),
        }
    }

    /// Status 200 and not one byte.
    #[must_use]
    pub const fn zero_bytes() -> Self {
        Self::Reply {
            status: "200 OK",
            headers: String::new(),
            body: String::new(),
        }
    }

    /// A redirection.
    #[must_use]
    pub fn redirect(status: &'static str, location: &str) -> Self {
        Self::Reply {
            status,
            headers: format!("Location: {location}\r\n"),
            body: String::new(),
        }
    }

    /// A status that says when to come back.
    #[must_use]
    pub fn retry_after(status: &'static str, seconds: u32) -> Self {
        Self::Reply {
            status,
            headers: format!("Retry-After: {seconds}\r\n"),
            body: String::new(),
        }
    }

    /// The session ends with this condition.
    #[must_use]
    pub fn terminate(condition: &str) -> Self {
        Self::Terminate {
            attributes: format!("condition='{condition}'"),
            inner: String::new(),
        }
    }

    /// The session ends; the body repeats its attributes, which is not XML (ejabberd).
    #[must_use]
    pub fn terminate_twice(condition: &str, inner: &str) -> Self {
        Self::Terminate {
            attributes: format!("condition='{condition}' type='terminate' condition='{condition}'"),
            inner: inner.to_owned(),
        }
    }

    /// The manager is elsewhere (XEP-0124 section 17.2).
    #[must_use]
    pub fn see_other_uri(uri: &str) -> Self {
        Self::Terminate {
            attributes: "condition='see-other-uri'".to_owned(),
            inner: format!("<uri>{uri}</uri>"),
        }
    }

    /// A document type with entities that grow in front of the manager's answer.
    #[must_use]
    pub fn entity_bomb() -> Self {
        Self::Rewrite(|body| {
            format!(
                "<!DOCTYPE body [<!ENTITY a 'xxxxxxxxxxxxxxxx'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>\
                 <!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]>{}",
                body.replacen("</body>", "<x xmlns='y'>&c;</x></body>", 1)
            )
        })
    }

    /// A comment inside the manager's answer.
    #[must_use]
    pub fn comment() -> Self {
        Self::Rewrite(|body| body.replacen("</body>", "<!-- hidden --></body>", 1))
    }

    /// The manager's answer in a namespace that is not BOSH's.
    #[must_use]
    pub fn wrong_namespace() -> Self {
        Self::Rewrite(|body| {
            body.replacen(
                "http://jabber.org/protocol/httpbind",
                "urn:example:other",
                1,
            )
        })
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for a session.
    Creation,
    /// Restarts the stream.
    Restart,
    /// Ends the session.
    Terminate,
    /// Carries something.
    Payload,
    /// Carries nothing.
    Empty,
    /// Cannot be read.
    Unreadable,
}

/// Which requests a rule is for.
#[derive(Clone, Debug)]
pub enum When {
    /// Each.
    Always,
    /// Creation requests.
    Creation,
    /// Requests without payload, restarts and terminates apart.
    Empty,
    /// Requests with payload, restarts and terminates apart.
    Payload,
    /// Restarts.
    Restart,
    /// Terminates.
    Terminate,
    /// Requests whose body holds this text.
    Holds(String),
    /// The n-th request since the start, by arrival; the first is 1.
    Nth(usize),
    /// Requests with the rid of a creation request plus this.
    Offset(u64),
    /// Every n-th request, by arrival.
    EveryNth(usize),
    /// With this chance in a thousand, by a fixed sequence.
    PerMille {
        /// Chance.
        chance: u64,
        /// Seed of the sequence; not 0.
        seed: u64,
    },
}

/// A fault, for which requests, and how often.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which requests.
    pub when: When,
    /// Requests that match but are let through first.
    pub skip: usize,
    /// How often it acts; `usize::MAX` is always.
    pub times: usize,
    /// What happens.
    pub fault: Fault,
}

/// What a rule can ask of a request.
pub(super) struct Facts<'a> {
    /// Its place among all requests, from 1.
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// Its rid less that of the session's creation.
    pub(super) offset: Option<u64>,
    pub(super) body: &'a str,
}

impl Rule {
    /// Once, at the first request that matches.
    #[must_use]
    pub const fn once(when: When, fault: Fault) -> Self {
        Self::times(when, 1, fault)
    }

    /// At every request that matches.
    #[must_use]
    pub const fn always(when: When, fault: Fault) -> Self {
        Self::times(when, usize::MAX, fault)
    }

    /// So many times.
    #[must_use]
    pub const fn times(when: When, times: usize, fault: Fault) -> Self {
        Self {
            when,
            skip: 0,
            times,
            fault,
        }
    }

    /// Lets so many matches through first.
    #[must_use]
    pub const fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Whether it acts on this request; counts down.
    pub(super) fn take(&mut self, facts: &Facts<'_>) -> bool {
        if self.times == 0 {
            return false;
        }
        let matches = match &mut self.when {
            When::Always => true,
            When::Creation => facts.kind == Kind::Creation,
            When::Empty => facts.kind == Kind::Empty,
            When::Payload => facts.kind == Kind::Payload,
            When::Restart => facts.kind == Kind::Restart,
            When::Terminate => facts.kind == Kind::Terminate,
            When::Holds(text) => facts.body.contains(text.as_str()),
            When::Nth(n) => facts.index == *n,
            When::Offset(offset) => facts.offset == Some(*offset),
            When::EveryNth(n) => facts.index.is_multiple_of((*n).max(1)),
            When::PerMille { chance, seed } => {
                // xorshift64
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                *seed % 1000 < *chance
            }
        };
        if !matches {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times != usize::MAX {
            self.times -= 1;
        }
        true
    }
}
