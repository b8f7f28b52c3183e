//! How managers differ where a client can see it.

/// One manager's ways.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Attributes of the creation reply besides `sid`, `wait` and `authid`.
    pub creation: &'static str,
    /// Highest wait granted, in seconds.
    pub max_wait: u64,
    /// Silence after which a session ends, in seconds.
    pub inactivity: u64,
    /// Requests allowed at once.
    pub requests: usize,
    /// `authid` is sent, equal to the sid.
    pub authid: bool,
    /// `sid` is repeated in later replies.
    pub repeat_sid: bool,
    /// Features come with the creation reply.
    pub features_at_once: bool,
    /// After success any request brings the features, restart or not.
    pub any_request_restarts: bool,
    /// Answers kept for a repeat.
    pub stored: usize,
    /// An unknown session is HTTP 404 instead of a terminate.
    pub http_errors: bool,
    /// More requests than allowed end the session.
    pub strict_window: bool,
    /// `xmlns='jabber:client'` is left out of what goes down.
    pub bare_stanzas: bool,
    /// A request that came one too early is forgotten if the missing one has nothing to answer.
    pub stalls: bool,
    /// Held requests end with HTTP 200 and no byte when the session ends.
    pub zero_bytes_at_end: bool,
}

impl Profile {
    /// By the letter of the XEP.
    #[must_use]
    pub const fn strict() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='60' polling='5' ver='1.11' from='localhost' xmpp:restartlogic='true'",
            max_wait: 120,
            inactivity: 60,
            requests: 2,
            authid: true,
            repeat_sid: false,
            features_at_once: true,
            any_request_restarts: false,
            stored: 2,
            http_errors: false,
            strict_window: true,
            bare_stanzas: false,
            stalls: false,
            zero_bytes_at_end: false,
        }
    }

    /// Prosody 0.12.
    #[must_use]
    pub const fn prosody() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='60' polling='5' ver='1.6' from='localhost' secure='true'",
            repeat_sid: true,
            any_request_restarts: true,
            strict_window: false,
            ..Self::strict()
        }
    }

    /// ejabberd 23.
    #[must_use]
    pub const fn ejabberd() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='30' maxpause='120' polling='2' ver='1.11' from='localhost' xmpp:restartlogic='true' charsets='UTF-8'",
            inactivity: 30,
            max_wait: 300,
            authid: true,
            stalls: true,
            ..Self::strict()
        }
    }

    /// MongooseIM.
    #[must_use]
    pub const fn mongooseim() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='30' maxpause='120' accept='deflate, gzip' xmpp:restartlogic='true'",
            inactivity: 30,
            authid: false,
            bare_stanzas: true,
            zero_bytes_at_end: true,
            ..Self::strict()
        }
    }

    /// Openfire.
    #[must_use]
    pub const fn openfire() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='30' maxpause='300' polling='5' ver='1.6' ack='0' secure='true'",
            inactivity: 30,
            stored: 3,
            http_errors: true,
            ..Self::strict()
        }
    }

    /// Tigase: features late, short inactivity.
    #[must_use]
    pub const fn tigase() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='10' maxpause='10' polling='10' ver='1.6' host='tigase'",
            max_wait: 30,
            inactivity: 10,
            features_at_once: false,
            stored: 2,
            http_errors: true,
            ..Self::strict()
        }
    }

    /// node-xmpp-bosh: features late, a stream name on every body.
    #[must_use]
    pub const fn node_xmpp_bosh() -> Self {
        Self {
            creation: "requests='2' hold='1' inactivity='70' ver='1.6' stream='stream1'",
            inactivity: 70,
            features_at_once: false,
            ..Self::strict()
        }
    }
}
