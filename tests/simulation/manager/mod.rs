//! Model connection managers: what five real ones do, as far as a client can see it. A manager sees requests on
//! connections that are numbered, and answers them by that number; who gets the answer is not its business.

mod ejabberd;
mod mongooseim;
mod openfire;
mod prosody;
mod server;
mod tigase;

pub(crate) use server::{Later, Mutation, Server};

use crate::Time;
use crate::plan::Plan;
use crate::request::Request;

/// One of the managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prosody,
    Ejabberd,
    MongooseIm,
    Openfire,
    Tigase,
}

pub(crate) const KINDS: [Kind; 5] = [
    Kind::Prosody,
    Kind::Ejabberd,
    Kind::MongooseIm,
    Kind::Openfire,
    Kind::Tigase,
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
            Self::MongooseIm => "mongooseim",
            Self::Openfire => "openfire",
            Self::Tigase => "tigase",
        }
    }

    /// Seconds of silence that end a session.
    pub(crate) fn inactivity(self) -> u64 {
        match self {
            Self::Prosody => 60,
            Self::Ejabberd | Self::MongooseIm | Self::Openfire => 30,
            Self::Tigase => 10,
        }
    }

    /// Shortest time between empty requests, in seconds.
    pub(crate) fn polling(self) -> u64 {
        match self {
            Self::Prosody | Self::Openfire => 5,
            Self::Ejabberd => 2,
            Self::MongooseIm => 0,
            Self::Tigase => 10,
        }
    }

    fn max_wait(self) -> u64 {
        match self {
            Self::Prosody => 120,
            Self::Ejabberd => 300,
            Self::MongooseIm | Self::Openfire => 3600,
            Self::Tigase => 30,
        }
    }

    /// Attributes of the creation reply.
    fn creation(self, sid: &str, rid: u64, wait: u64, polling: bool) -> String {
        let usual = self.usual_creation(sid, rid, wait);
        if !polling {
            return usual;
        }
        let usual = usual.replace("hold='1'", "hold='0'");
        usual.replace("requests='2'", "requests='1'")
    }

    fn usual_creation(self, sid: &str, rid: u64, wait: u64) -> String {
        let inactivity = self.inactivity();
        let xmpp = "xmlns:xmpp='urn:xmpp:xbosh' xmpp:version='1.0'";
        match self {
            Self::Prosody => format!(
                "{xmpp} from='example.org' authid='{sid}' sid='{sid}' ver='1.6' polling='5' \
                 inactivity='{inactivity}' hold='1' requests='2' wait='{wait}' secure='true'"
            ),
            Self::Ejabberd => format!(
                "{xmpp} sid='{sid}' wait='{wait}' ver='1.11' polling='2' inactivity='{inactivity}' hold='1' \
                 xmpp:restartlogic='true' requests='2' secure='true' maxpause='120' from='example.org'"
            ),
            Self::MongooseIm => format!(
                "{xmpp} xmpp:restartlogic='true' sid='{sid}' wait='{wait}' hold='1' requests='2' \
                 inactivity='{inactivity}' maxpause='120' accept='deflate, gzip' from='example.org'"
            ),
            Self::Openfire => format!(
                "from='example.org' authid='{sid}' sid='{sid}' secure='true' requests='2' \
                 inactivity='{inactivity}' polling='5' wait='{wait}' hold='1' ack='{rid}' maxpause='300' ver='1.6'"
            ),
            Self::Tigase => format!(
                "{xmpp} sid='{sid}' wait='{wait}' hold='1' requests='2' inactivity='{inactivity}' maxpause='10' \
                 polling='10' ver='1.6' from='example.org' host='tigase.local' secure='true' authid='{sid}'"
            ),
        }
    }

    /// Whether it notices that the client has closed a connection.
    fn notices_close(self) -> bool {
        matches!(self, Self::Prosody | Self::Tigase)
    }
}

/// An HTTP answer on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) conn: usize,
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What a manager did that no client can make good again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A request that was put aside will not be looked at any more (cm-quirks 4.1).
    Stalled,
    /// This request was put aside and came again, and the session broke.
    ParkedAgain(u64),
    /// The session ended since nothing was heard for too long.
    Inactive,
    /// A rid was skipped while an early request was let in.
    Skipped,
    /// There never was an answer to keep, and it is asked for.
    Unkept,
    /// Another answer is kept for a rid that was or will be answered with stanzas.
    Masked,
    /// Requests run in another order than they were sent, and so do answers.
    Overtaken,
    /// What was kept for a request goes out as the answer to an older one that came again.
    Reordered,
    /// A rid that is not known any more.
    Forgotten,
    /// More requests than allowed.
    Overactive,
}

/// What every session has.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) kind: Kind,
    pub(crate) sid: String,
    pub(crate) wait: Time,
    pub(crate) server: Server,
    pub(crate) answers: Vec<Answer>,
    pub(crate) notes: Vec<Note>,
    pub(crate) over: bool,
}

impl Common {
    fn inactivity(&self) -> Time {
        self.kind.inactivity() * crate::SECOND
    }

    fn answer(&mut self, conn: usize, body: String) {
        self.answers.push(Answer {
            conn,
            status: 200,
            body,
        });
    }

    /// The stanzas of a request reach the server.
    fn feed(&mut self, request: &Request) {
        self.server.take(request);
    }
}

/// One session of one manager.
pub(crate) trait Session {
    fn common(&mut self) -> &mut Common;
    fn look(&self) -> &Common;
    fn request(&mut self, conn: usize, request: &Request, now: Time);
    /// The other side has closed this connection.
    fn closed(&mut self, conn: usize, now: Time);
    /// The server has put something into [`Server::pending`].
    fn push(&mut self, now: Time);
    /// The server ends the stream.
    fn end(&mut self, now: Time);
    fn due(&self) -> Option<Time>;
    fn expire(&mut self, now: Time);
    /// Requests that wait for an answer.
    fn held(&self) -> usize;
}

/// A manager with the sessions it ever had.
pub(crate) struct Manager {
    pub(crate) kind: Kind,
    pub(crate) sessions: Vec<Box<dyn Session>>,
    mutation: Option<Mutation>,
    polling: bool,
    /// Answers of the manager itself.
    loose: Vec<Answer>,
}

impl Manager {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            kind: plan.kind,
            sessions: Vec::new(),
            mutation: plan.mutation,
            polling: plan.polling,
            loose: Vec::new(),
        }
    }

    pub(crate) fn session(&mut self, sid: &str) -> Option<&mut Box<dyn Session>> {
        self.sessions.iter_mut().find(|s| s.look().sid == sid)
    }

    pub(crate) fn request(&mut self, conn: usize, request: &Request, now: Time) {
        let Some(sid) = &request.sid else {
            self.create(conn, request, now);
            return;
        };
        let live = self.session(sid).filter(|s| !s.look().over);
        match live {
            Some(session) => session.request(conn, request, now),
            None => {
                let (status, body) = match self.kind {
                    Kind::Openfire | Kind::Tigase => (404, "<html>Invalid SID</html>".to_owned()),
                    _ => (200, terminate(Some("item-not-found"), "")),
                };
                self.loose.push(Answer { conn, status, body });
            }
        }
    }

    fn create(&mut self, conn: usize, request: &Request, now: Time) {
        let sid = format!("s{}", self.sessions.len());
        let wait = match self.polling {
            true => 0,
            false => request.wait.unwrap_or_default().min(self.kind.max_wait()),
        };
        let attributes = self.kind.creation(&sid, request.rid, wait, self.polling);
        let common = Common {
            kind: self.kind,
            sid,
            wait: match self.mutation {
                Some(Mutation::Hasty) => 0,
                _ => wait * crate::SECOND,
            },
            server: Server::new(self.mutation),
            answers: Vec::new(),
            notes: Vec::new(),
            over: false,
        };
        let start = Start {
            common,
            conn,
            rid: request.rid,
            attributes,
            now,
        };
        let session: Box<dyn Session> = match self.kind {
            Kind::Prosody => Box::new(prosody::Prosody::new(start)),
            Kind::Ejabberd => Box::new(ejabberd::Ejabberd::new(start)),
            Kind::MongooseIm => Box::new(mongooseim::MongooseIm::new(start)),
            Kind::Openfire => Box::new(openfire::Openfire::new(start)),
            Kind::Tigase => Box::new(tigase::Tigase::new(start)),
        };
        self.sessions.push(session);
    }

    pub(crate) fn closed(&mut self, conn: usize, now: Time) {
        if self.kind.notices_close() {
            for session in self.sessions.iter_mut().filter(|s| !s.look().over) {
                session.closed(conn, now);
            }
        }
    }

    pub(crate) fn due(&self) -> Option<Time> {
        let live = self.sessions.iter().filter(|s| !s.look().over);
        live.filter_map(|s| s.due()).min()
    }

    pub(crate) fn expire(&mut self, now: Time) {
        for session in self.sessions.iter_mut().filter(|s| !s.look().over) {
            if session.due().is_some_and(|due| due <= now) {
                session.expire(now);
            }
        }
    }

    pub(crate) fn take_answers(&mut self) -> Vec<Answer> {
        let mut out = std::mem::take(&mut self.loose);
        for session in &mut self.sessions {
            out.append(&mut session.common().answers);
        }
        out
    }
}

/// What a session begins with.
pub(crate) struct Start {
    common: Common,
    conn: usize,
    rid: u64,
    attributes: String,
    now: Time,
}

fn body(attributes: &str, inner: &str) -> String {
    let space = if attributes.is_empty() { "" } else { " " };
    if inner.is_empty() {
        return format!("<body xmlns='http://jabber.org/protocol/httpbind'{space}{attributes}/>");
    }
    format!(
        "<body xmlns='http://jabber.org/protocol/httpbind' \
         xmlns:stream='http://etherx.jabber.org/streams'{space}{attributes}>{inner}</body>"
    )
}

fn terminate(condition: Option<&str>, inner: &str) -> String {
    match condition {
        Some(condition) => body(&format!("type='terminate' condition='{condition}'"), inner),
        None => body("type='terminate'", inner),
    }
}
