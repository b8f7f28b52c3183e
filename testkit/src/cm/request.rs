//! Reading `<body/>`: what it asks for, and what is wrong with it.

use super::fault::Kind;

const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
const XBOSH: &str = "urn:xmpp:xbosh";
const XML: &str = "http://www.w3.org/XML/1998/namespace";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// A request, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) rid: u64,
    pub(super) sid: Option<String>,
    pub(super) ack: Option<u64>,
    pub(super) key: Option<String>,
    pub(super) new_key: Option<String>,
    pub(super) pause: Option<u64>,
    pub(super) to: Option<String>,
    pub(super) ver: Option<String>,
    pub(super) wait: Option<u64>,
    pub(super) hold: Option<u64>,
    /// Content type wanted on replies.
    pub(super) content: Option<String>,
    /// `xmpp:version` is there, letter by letter.
    pub(super) literal_version: bool,
    /// A restart by namespace.
    pub(super) restart: bool,
    /// A restart letter by letter.
    pub(super) literal_restart: bool,
    pub(super) terminate: bool,
    /// Children as standalone text.
    pub(super) children: Vec<String>,
}

impl Request {
    pub(super) fn kind(&self) -> Kind {
        if self.sid.is_none() {
            Kind::Creation
        } else if self.terminate {
            Kind::Terminate
        } else if self.restart {
            Kind::Restart
        } else if self.children.is_empty() {
            Kind::Empty
        } else {
            Kind::Payload
        }
    }

    /// Reads a body. What a strict reader objects to, but a manager can work with, goes to `wrong`.
    ///
    /// # Errors
    /// What makes it no request at all.
    pub(super) fn read(body: &str, wrong: &mut Vec<String>) -> Result<Self, String> {
        let document =
            roxmltree::Document::parse(body).map_err(|e| format!("B-10: not XML: {e}"))?;
        let root = document.root_element();
        if !root.has_tag_name((HTTPBIND, "body")) {
            return Err("B-10: not a body in BOSH's namespace".to_owned());
        }
        if !body.starts_with("<body ") {
            wrong.push("X-04: something before <body, or a prefix".to_owned());
        }
        if document.root().children().count() != 1
            || root.descendants().any(|n| n.is_comment() || n.is_pi())
        {
            wrong.push("B-10: a comment or processing instruction".to_owned());
        }
        let text = |name: &str| root.attribute(name).map(str::to_owned);
        let number = |name: &str| root.attribute(name).and_then(|v| v.parse::<u64>().ok());
        let rid = number("rid").ok_or("B-33: no rid")?;
        if rid == 0 || rid > 9_007_199_254_740_991 {
            wrong.push(format!("B-34: rid {rid}"));
        }
        let restart = matches!(root.attribute((XBOSH, "restart")), Some("true" | "1"));
        let mut request = Self {
            rid,
            sid: text("sid"),
            ack: number("ack"),
            key: text("key"),
            new_key: text("newkey"),
            pause: number("pause"),
            to: text("to"),
            ver: text("ver"),
            wait: number("wait"),
            hold: number("hold"),
            content: text("content"),
            literal_version: body.contains(" xmpp:version="),
            restart,
            literal_restart: body.contains(" xmpp:restart='true'")
                || body.contains(" xmpp:restart=\"true\""),
            terminate: root.attribute("type") == Some("terminate"),
            children: Vec::new(),
        };
        for child in root.children() {
            if child.is_text() {
                wrong.push("B-10: text in the wrapper".to_owned());
            } else if child.is_element() {
                judge_payload(child, wrong);
                request.children.push(body[child.range()].to_owned());
            }
        }
        judge_mixture(root, wrong);
        request.judge_attributes(root, wrong);
        Ok(request)
    }

    /// B-12 to B-22, X-04, X-08, X-13: which attributes go with which request.
    fn judge_attributes(&self, root: roxmltree::Node<'_, '_>, wrong: &mut Vec<String>) {
        let kind = self.kind();
        let allowed: &[&str] = match kind {
            Kind::Creation => &[
                "rid", "to", "from", "route", "ver", "wait", "hold", "ack", "content", "lang",
                "version", "newkey",
            ],
            Kind::Restart => &[
                "rid", "sid", "ack", "to", "from", "lang", "restart", "key", "newkey",
            ],
            Kind::Terminate => &["rid", "sid", "ack", "type", "key", "newkey"],
            Kind::Payload | Kind::Empty | Kind::Unreadable => {
                &["rid", "sid", "ack", "pause", "key", "newkey"]
            }
        };
        for attribute in root.attributes().filter(|a| !allowed.contains(&a.name())) {
            wrong.push(format!(
                "B-20: attribute {} does not belong to {kind:?}",
                attribute.name()
            ));
        }
        let demanded: &[&str] = match kind {
            Kind::Creation => &["to", "ver", "wait", "hold"],
            Kind::Restart => &["to"],
            Kind::Terminate | Kind::Payload | Kind::Empty | Kind::Unreadable => &[],
        };
        for name in demanded.iter().filter(|name| !root.has_attribute(**name)) {
            wrong.push(format!("B-13 to B-15, X-13: {kind:?} without {name}"));
        }
        if matches!(kind, Kind::Creation | Kind::Restart) {
            if !root.has_attribute((XML, "lang")) {
                wrong.push(format!("B-13, X-13: {kind:?} without xml:lang"));
            }
            if !self.children.is_empty() {
                wrong.push(format!("B-22, X-13: payload in {kind:?}"));
            }
        }
        if kind == Kind::Creation {
            let halves = self.ver.as_deref().and_then(|v| v.split_once('.'));
            let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            if !halves.is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
                wrong.push(format!("B-14: ver {:?}", self.ver));
            }
            if self.ack.is_some_and(|ack| ack != 1) {
                wrong.push("B-18: ack at creation is not 1".to_owned());
            }
            if root.attribute((XBOSH, "version")).is_some() && !self.literal_version {
                wrong.push("X-04: version with another prefix".to_owned());
            }
        }
        if self.restart != self.literal_restart {
            wrong.push("X-04: restart with another prefix or value".to_owned());
        }
        if root.attribute("type").is_some_and(|t| t != "terminate") {
            wrong.push("B-20: type other than terminate".to_owned());
        }
    }
}

fn is_stanza(name: &str) -> bool {
    matches!(name, "message" | "presence" | "iq")
}

/// S-20: what may travel.
fn judge_payload(child: roxmltree::Node<'_, '_>, wrong: &mut Vec<String>) {
    let (name, namespace) = (
        child.tag_name().name(),
        child.tag_name().namespace().unwrap_or_default(),
    );
    let what = match namespace {
        HTTPBIND | "" => "X-02: without a namespace of its own",
        "urn:ietf:params:xml:ns:xmpp-tls" => "X-06: TLS negotiation",
        "http://jabber.org/protocol/compress" => "X-07: compression",
        "http://etherx.jabber.org/streams" => "X-05, S-20: a stream's own element",
        _ if is_stanza(name) && namespace != "jabber:client" => {
            "X-02: a stanza outside jabber:client"
        }
        _ => return,
    };
    wrong.push(format!("{what}: <{name}/>"));
}

/// a SASL element travels alone.
fn judge_mixture(root: roxmltree::Node<'_, '_>, wrong: &mut Vec<String>) {
    let elements = || root.children().filter(roxmltree::Node::is_element);
    if elements().count() > 1 && elements().any(|c| c.tag_name().namespace() == Some(SASL)) {
        wrong.push("X-01: SASL mixed with something else".to_owned());
    }
}
