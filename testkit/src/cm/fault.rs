//! What goes wrong on the way, on command.

use std::time::Duration;

/// One fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The request is lost: the connection closes, the manager never sees it.
    LoseRequest,
    /// The manager processes the request, the answer is lost with the connection.
    LoseAnswer,
    /// Nothing is ever answered; the manager does not see the request.
    Silence,
    /// The manager processes the request, nothing is ever answered.
    SilenceAfter,
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
    /// The reply is cut after so many bytes of the message.
    Truncate(usize),
    /// The reply comes later.
    Delay(Duration),
    /// `Connection: close` and then the close.
    Close,
    /// The connection closes without notice after the reply.
    CloseSilently,
    /// The reply in chunked coding.
    Chunked,
    /// The reply as HTTP/1.0 without length, ended by the close.
    Http10,
    /// An interim reply first.
    Interim,
    /// `type='error'`: the manager asks for the request again.
    RecoverableError,
    /// The body is processed by nobody and the session ended with this.
    Terminate {
        /// Attributes of the body besides type.
        attributes: String,
        /// Its content.
        inner: String,
    },
}

/// Which requests a rule is for.
#[derive(Clone, Debug)]
pub enum When {
    /// Each.
    Always,
    /// Creation requests.
    Creation,
    /// Requests without payload.
    Empty,
    /// Requests whose body holds this text.
    Holds(String),
    /// Every n-th request, by arrival.
    EveryNth(usize),
    /// With this chance in a thousand, by a fixed sequence.
    PerMille {
        /// Chance.
        chance: u64,
        /// Seed of the sequence.
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

impl Rule {
    /// Once, at the first request that matches.
    #[must_use]
    pub const fn once(when: When, fault: Fault) -> Self {
        Self {
            when,
            skip: 0,
            times: 1,
            fault,
        }
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

    /// Whether it acts on this request, the `index`-th to arrive; counts down.
    pub(super) fn take(&mut self, index: usize, body: &str) -> bool {
        if self.times == 0 {
            return false;
        }
        let matches = match &mut self.when {
            When::Always => true,
            When::Creation => !body.contains(" sid="),
            When::Empty => {
                body.ends_with("/>")
                    && !body.contains("type='terminate'")
                    && !body.contains("restart")
                    && body.contains(" sid=")
            }
            When::Holds(text) => body.contains(text.as_str()),
            When::EveryNth(n) => index.is_multiple_of((*n).max(1)),
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
