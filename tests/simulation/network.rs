//! The wire: attempts of the client on the way to a manager, and what goes wrong there.

use bytes::Bytes;
use xbosh::bosh::{Failure, FailureKind, RequestKey};

use crate::Time;
use crate::plan::Fault;

/// One attempt of one request, as the client sees it.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) key: RequestKey,
    pub(crate) body: Bytes,
    pub(crate) sent: Time,
    /// When the client stopped waiting for it.
    pub(crate) ended: Option<Time>,
    /// Something went wrong with it.
    pub(crate) spoilt: bool,
    /// The shell may never say what became of it.
    pub(crate) stuck: bool,
    pub(crate) restart: bool,
}

/// One way of the bytes to the manager. Most flights have one.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) flight: usize,
    pub(crate) fate: Fate,
    /// Bytes still go both ways.
    pub(crate) alive: bool,
    pub(crate) arrived: bool,
    pub(crate) answered: bool,
    /// A copy that the client cannot know of.
    pub(crate) hidden: bool,
}

/// What becomes of the answer on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Comes,
    /// The connection breaks with it.
    Breaks,
    /// Nobody sees it.
    Vanishes,
    /// It breaks off in the middle.
    BreaksOff,
}

/// What happens later.
#[derive(Debug)]
pub(crate) enum Event {
    Written(usize),
    /// The sender has written the bytes again by itself.
    Repeated(usize),
    Arrives(usize),
    /// The client is told that the attempt failed.
    Fails(usize, FailureKind, bool),
    /// The client is told by a middle box.
    Gateway(usize, u16),
    /// The manager's answer reaches the client.
    Answer(usize, u16, String),
    /// The connection breaks; told to the client, noticed by the manager.
    Breaks(usize, bool, bool),
    /// A middle box has held the request for long enough.
    Cut(usize),
    /// The manager's side sees the end of the connection.
    CloseSeen(usize),
    Say(crate::client::Step),
    Server(usize, crate::manager::Later),
    Act(crate::plan::Act),
    Finish,
    /// The machine has slept for so long.
    Wake(Time),
    GiveUp,
}

impl Event {
    /// Whether it happens at the client, which may be asleep.
    pub(crate) fn needs_the_client(&self) -> bool {
        match self {
            Self::Written(_)
            | Self::Repeated(_)
            | Self::Fails(..)
            | Self::Gateway(..)
            | Self::Answer(..)
            | Self::Say(_)
            | Self::Act(_)
            | Self::Finish
            | Self::Breaks(..)
            | Self::GiveUp => true,
            Self::Arrives(_)
            | Self::Cut(_)
            | Self::CloseSeen(_)
            | Self::Server(..)
            | Self::Wake(_) => false,
        }
    }
}

/// What the client is told of a broken attempt.
pub(crate) fn failure(kind: FailureKind, sent: bool) -> Failure {
    Failure {
        kind,
        text: "simulated".into(),
        sent,
    }
}

/// The fate of the answer under a fault.
pub(crate) fn fate(fault: Option<Fault>) -> Fate {
    match fault {
        Some(Fault::AnswerLost) => Fate::Breaks,
        Some(Fault::AnswerSwallowed | Fault::GatewayAfter | Fault::Late) => Fate::Vanishes,
        Some(Fault::Truncated) => Fate::BreaksOff,
        _ => Fate::Comes,
    }
}
