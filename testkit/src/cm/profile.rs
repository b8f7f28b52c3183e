//! How managers differ where a client can see it: the letter of the XEP, and seven real ones.

/// How a session's end is told to the requests that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// XEP-0124 section 13: terminate on the oldest, empty bodies on the rest.
    Oldest,
    /// Terminate on every one (Prosody).
    All,
    /// Terminate on the request that ends the session, `other-request` on the rest (ejabberd).
    OtherRequest,
    /// Terminate on the oldest, HTTP 200 and no byte on the rest (`MongooseIM`).
    ZeroBytes,
}

/// What becomes of the older copy when a request that is held comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Superseded {
    /// XEP-0124 section 14.3: answered with a recoverable binding condition.
    Error,
    /// Answered empty, and the empty answer is stored as the rid's own (cm-quirks 4.2).
    EmptyStored,
    /// As above, and the new copy comes back with the client's own stanzas if nothing else is there (4.3).
    Echo,
}

/// What an out-of-window or forgotten rid gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongRid {
    /// `item-not-found`, and the session ends.
    Ends,
    /// `item-not-found` for that request only.
    Lives,
    /// Too large: the session ends; too small: never answered (ejabberd).
    EndsOrSilent,
}

/// What HTTP says when the manager refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// 200 and a terminate body, always.
    Ok,
    /// 400 without a body for what is no request, else as [`Self::Ok`].
    Malformed400,
    /// 500 for what is no request, else as [`Self::Ok`].
    Malformed500,
    /// 400, 404 with a page.
    Pages,
    /// 400, 404 without a body.
    Bare,
}

/// What a `pause` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// XEP-0124 section 10.
    Works,
    /// Never answered (ejabberd).
    Silent,
    /// Taken for a poll (Prosody, Tigase).
    Poll,
}

/// One manager's ways. The public fields can be changed by struct update.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Attributes of the creation reply; `{sid}`, `{rid}`, `{wait}`, `{hold}`, `{requests}`, `{inactivity}`,
    /// `{polling}`, `{ver}` (the lower of 1.11 and the client's), `{asked_ver}` and `{from}` are filled in.
    pub creation: &'static str,
    /// Highest wait granted, in seconds.
    pub max_wait: u64,
    /// Wait when none is asked for; `None`: `bad-request`.
    pub default_wait: Option<u64>,
    /// A hold of 0 or none is refused with `undefined-condition`.
    pub demands_hold: bool,
    /// Silence after which a session ends, in seconds.
    pub inactivity: u64,
    /// Shortest time between empty requests, in seconds.
    pub polling: u64,
    /// Requests allowed at once.
    pub requests: usize,
    /// Condition for a domain that is not served.
    pub unknown_host: &'static str,
    /// `sid` is repeated in later replies.
    pub repeat_sid: bool,
    /// The stream's name on every body (node-xmpp-bosh).
    pub stream_name: Option<&'static str>,
    /// `xmlns:stream` stands on the body.
    pub declares_stream: bool,
    /// Features come with the creation reply.
    pub features_at_once: bool,
    /// No features for a client whose creation request has no literal `xmpp:version`.
    pub needs_version: bool,
    /// After success any request brings the features, restart or not.
    pub any_request_restarts: bool,
    /// A restart is one only as `xmpp:restart='true'`, letter by letter; its payload is dropped.
    pub literal_restart: bool,
    /// A second restart under another rid gets features again.
    pub restarts_again: bool,
    /// A restart is answered under its own rid, and not stored; the older poll stays held (Openfire).
    pub restart_apart: bool,
    /// A payload in the creation request is refused with HTTP 400 (Openfire).
    pub refuses_early_payload: bool,
    /// Answers kept for a repeat.
    pub stored: usize,
    /// Requests are processed in rid order; otherwise as they come.
    pub in_order: bool,
    /// An early request is looked at again only when the missing one is answered with payload, and a
    /// repeat of it ends the session (ejabberd, cm-quirks 4.1).
    pub stalls: bool,
    /// See [`Superseded`].
    pub superseded: Superseded,
    /// See [`WrongRid`].
    pub wrong_rid: WrongRid,
    /// See [`Errors`].
    pub errors: Errors,
    /// More requests than allowed, or empty ones too close together, end the session.
    pub strict_window: bool,
    /// A client that closes a connection takes the request held there back.
    pub notices_close: bool,
    /// The reason of an end is lost when no request is held (cm-quirks 4.5).
    pub forgets_reason: bool,
    /// See [`AtEnd`].
    pub at_end: AtEnd,
    /// See [`Pause`].
    pub pause: Pause,
    /// Keys are checked (XEP-0124 section 15).
    pub keys: bool,
    /// `ack` on replies (XEP-0124 section 9.1).
    pub acks: bool,
    /// Most payloads in one reply.
    pub max_payloads: usize,
    /// `xmlns='jabber:client'` is left out of what goes down.
    pub bare_stanzas: bool,
    /// Replies say this type.
    pub content_type: &'static str,
    /// Header names are in lower case.
    pub lower_case: bool,
    /// `Connection: close` on every reply.
    pub closes: bool,
    /// Biggest request, and the HTTP status for a bigger one.
    pub max_request: Option<(usize, &'static str)>,
}

impl Profile {
    /// By the letter of the XEP.
    #[must_use]
    pub const fn strict() -> Self {
        Self {
            creation: "sid='{sid}' wait='{wait}' hold='{hold}' requests='{requests}' inactivity='{inactivity}' \
                       polling='{polling}' ver='{ver}' from='{from}' ack='{rid}' authid='{sid}' accept='gzip' \
                       charsets='UTF-8' xmpp:version='1.0' xmpp:restartlogic='true'",
            max_wait: 120,
            default_wait: Some(60),
            demands_hold: false,
            inactivity: 60,
            polling: 5,
            requests: 2,
            unknown_host: "host-unknown",
            repeat_sid: false,
            stream_name: None,
            declares_stream: true,
            features_at_once: true,
            needs_version: false,
            any_request_restarts: false,
            literal_restart: false,
            restarts_again: true,
            restart_apart: false,
            refuses_early_payload: false,
            stored: 2,
            in_order: true,
            stalls: false,
            superseded: Superseded::Error,
            wrong_rid: WrongRid::Ends,
            errors: Errors::Ok,
            strict_window: true,
            notices_close: true,
            forgets_reason: false,
            at_end: AtEnd::Oldest,
            pause: Pause::Works,
            keys: true,
            acks: true,
            max_payloads: usize::MAX,
            bare_stanzas: false,
            content_type: "text/xml; charset=utf-8",
            lower_case: false,
            closes: false,
            max_request: None,
        }
    }

    /// Prosody 0.12.
    #[must_use]
    pub const fn prosody() -> Self {
        Self {
            creation: "xmpp:version='1.0' from='{from}' authid='{sid}' sid='{sid}' ver='1.6' polling='{polling}' \
                       inactivity='{inactivity}' hold='1' requests='2' wait='{wait}' secure='true'",
            default_wait: None,
            unknown_host: "improper-addressing",
            repeat_sid: true,
            any_request_restarts: true,
            restarts_again: false,
            superseded: Superseded::EmptyStored,
            wrong_rid: WrongRid::Lives,
            strict_window: false,
            forgets_reason: true,
            at_end: AtEnd::All,
            pause: Pause::Poll,
            keys: false,
            acks: false,
            max_request: Some((10_000_000, "413 Request Entity Too Large")),
            ..Self::strict()
        }
    }

    /// ejabberd 23.01.
    #[must_use]
    pub const fn ejabberd() -> Self {
        Self {
            creation: "sid='{sid}' wait='{wait}' requests='{requests}' inactivity='{inactivity}' maxpause='120' \
                       polling='{polling}' ver='1.11' from='{from}' secure='true' authid='{sid}' \
                       xmpp:restartlogic='true' xmpp:version='1.0'",
            max_wait: 300,
            default_wait: Some(300),
            inactivity: 30,
            polling: 2,
            unknown_host: "internal-server-error",
            needs_version: true,
            literal_restart: true,
            restarts_again: false,
            stalls: true,
            superseded: Superseded::Echo,
            wrong_rid: WrongRid::EndsOrSilent,
            errors: Errors::Malformed400,
            strict_window: false,
            notices_close: false,
            forgets_reason: true,
            at_end: AtEnd::OtherRequest,
            pause: Pause::Silent,
            acks: false,
            max_request: Some((20_000_000, "403 Forbidden")),
            ..Self::strict()
        }
    }

    /// `MongooseIM` 6.
    #[must_use]
    pub const fn mongooseim() -> Self {
        Self {
            creation: "sid='{sid}' wait='{wait}' hold='1' requests='2' inactivity='{inactivity}' maxpause='120' \
                       accept='deflate, gzip' from='{from}' xmpp:restartlogic='true' xmpp:version='1.0'",
            max_wait: 3600,
            demands_hold: true,
            inactivity: 30,
            polling: 0,
            literal_restart: true,
            superseded: Superseded::EmptyStored,
            errors: Errors::Malformed500,
            strict_window: false,
            forgets_reason: true,
            at_end: AtEnd::ZeroBytes,
            keys: false,
            acks: false,
            bare_stanzas: true,
            content_type: "text/xml; charset=utf8",
            lower_case: true,
            max_request: Some((8_000_000, "500 Internal Server Error")),
            ..Self::strict()
        }
    }

    /// Openfire 4.
    #[must_use]
    pub const fn openfire() -> Self {
        Self {
            creation: "from='{from}' authid='{sid}' sid='{sid}' secure='true' requests='2' \
                       inactivity='{inactivity}' polling='{polling}' wait='{wait}' hold='{hold}' ack='{rid}' \
                       maxpause='300' ver='{asked_ver}'",
            max_wait: 3600,
            inactivity: 30,
            restart_apart: true,
            refuses_early_payload: true,
            stored: 3,
            literal_restart: true,
            superseded: Superseded::EmptyStored,
            errors: Errors::Pages,
            keys: false,
            ..Self::strict()
        }
    }

    /// Tigase 8: features late, short inactivity, nothing put in order, nothing stored.
    #[must_use]
    pub const fn tigase() -> Self {
        Self {
            creation: "sid='{sid}' wait='{wait}' hold='{hold}' requests='2' inactivity='{inactivity}' \
                       maxpause='10' polling='{polling}' ver='1.6' from='{from}' host='tigase.local' secure='true' \
                       authid='{sid}' xmpp:version='1.0'",
            max_wait: 30,
            default_wait: Some(30),
            inactivity: 10,
            polling: 10,
            features_at_once: false,
            literal_restart: true,
            stored: 0,
            in_order: false,
            errors: Errors::Pages,
            strict_window: false,
            pause: Pause::Poll,
            keys: false,
            acks: false,
            max_payloads: 15,
            ..Self::strict()
        }
    }

    /// Punjab: no order, bare HTTP errors, a `window`.
    #[must_use]
    pub const fn punjab() -> Self {
        Self {
            creation: "sid='{sid}' wait='{wait}' requests='2' inactivity='{inactivity}' polling='{polling}' \
                       from='{from}' window='3' authid='{sid}' secure='true' xmpp:version='1.0'",
            max_wait: 3600,
            default_wait: Some(3),
            polling: 15,
            stored: 3,
            in_order: false,
            superseded: Superseded::EmptyStored,
            wrong_rid: WrongRid::Lives,
            errors: Errors::Bare,
            strict_window: false,
            acks: false,
            ..Self::strict()
        }
    }

    /// node-xmpp-bosh: features late, a stream name on every body, `xmlns:stream` missing there.
    #[must_use]
    pub const fn node_xmpp_bosh() -> Self {
        Self {
            creation: "stream='stream1' sid='{sid}' wait='{wait}' ver='{asked_ver}' polling='{polling}' \
                       inactivity='{inactivity}' requests='2' hold='{hold}' from='{from}' ack='{rid}' \
                       window='2' xmpp:restartlogic='true' xmpp:version='1.0'",
            max_wait: 56,
            inactivity: 70,
            polling: 0,
            stream_name: Some("stream1"),
            declares_stream: false,
            features_at_once: false,
            strict_window: false,
            keys: false,
            max_request: Some((100_000, "413 Request Entity Too Large")),
            ..Self::strict()
        }
    }
}
