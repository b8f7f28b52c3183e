//! Why a session ended. A close is a reason, not an error: the bridge turns it into what the client is told.

use super::condition::BindingCondition;
use super::failure::Failure;
use crate::xml::Element;

/// The end of a session.
#[derive(Clone, Debug)]
pub enum CloseReason {
    /// We asked for it; `confirmed` when the manager answered the terminate request.
    Terminated {
        /// The terminate request got an answer.
        confirmed: bool,
    },
    /// The manager ended it in order, without a condition (C-14).
    Ended,
    /// The manager ended it with a terminal binding condition (XEP-0124 section 17.2).
    Condition {
        /// The condition.
        condition: BindingCondition,
        /// Plain text that came with it.
        text: Option<String>,
        /// The transported `<stream:error/>`, or its children in the old form.
        stream_error: Vec<Element>,
    },
    /// We gave up.
    Failed(Cause),
}

/// What an attempt met, short of a usable reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A hop failed (E-30 to E-51, E-67).
    Hop(Failure),
    /// HTTP success without a BOSH body: a login page, a captive portal (E-52).
    NotBosh,
    /// A redirect that is not followed (E-53); the text says where to, if it may be told.
    Redirect(Option<String>),
    /// An HTTP status (E-54 to E-60).
    Status(u16),
    /// The creation reply is unusable (E-62); says what is wrong.
    CreationReply(&'static str),
    /// Malformed or restricted XML in the reply (E-63).
    BadXml(String),
    /// The rid limit is reached (E-64).
    RidLimit,
    /// Payload for a stream that is not ours (XEP-0124 section 16).
    UnknownStream,
    /// No reply by the deadline (E-51).
    NoReply,
    /// The manager asked for the same request again and again (`type='error'`).
    Unrecoverable,
}

impl Cause {
    /// Whether any byte of the attempt may have reached the manager.
    #[must_use]
    pub fn sent(&self) -> bool {
        !matches!(self, Self::Hop(Failure { sent: false, .. }))
    }
}
