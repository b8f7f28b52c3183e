//! One client of the server: what it says, and where stanzas go.

use tokio::sync::mpsc::UnboundedSender;

use super::login::Login;
use super::{Online, Out, Server, bare, stream_error, tag};

/// One client of the server.
#[derive(Debug)]
pub struct Stream {
    pub(super) server: Server,
    pub(super) id: String,
    number: u64,
    sink: UnboundedSender<Out>,
    pub(super) login: Login,
    pub(super) user: Option<String>,
    jid: Option<String>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.go_offline();
    }
}

impl Stream {
    pub(super) fn new(server: Server, id: &str, number: u64, sink: UnboundedSender<Out>) -> Self {
        Self {
            server,
            id: id.to_owned(),
            number,
            sink,
            login: Login::default(),
            user: None,
            jid: None,
        }
    }

    /// The features as they are now: logins before, binding after.
    #[must_use]
    pub fn features(&self) -> String {
        let options = self.server.options();
        if self.user.is_some() {
            return format!(
                "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
                 <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>{}</stream:features>",
                options.after_login
            );
        }
        let mut out =
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>".to_owned();
        let mechanisms: String = options
            .mechanisms
            .iter()
            .map(|m| format!("<mechanism>{m}</mechanism>"))
            .collect();
        out.push_str(&mechanisms);
        out.push_str("</mechanisms>");
        if options.sasl2 {
            out.push_str("<authentication xmlns='urn:xmpp:sasl:2'>");
            out.push_str(&mechanisms);
            out.push_str("<inline><bind xmlns='urn:xmpp:bind:0'/></inline></authentication>");
        }
        if options.legacy_auth {
            out.push_str("<auth xmlns='http://jabber.org/features/iq-auth'/>");
        }
        if options.registration {
            out.push_str("<register xmlns='http://jabber.org/features/iq-register'/>");
        }
        out.push_str(&options.before_login);
        out.push_str("</stream:features>");
        out
    }

    /// Whether the client is logged in.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.user.is_some()
    }

    /// Its full JID, once bound.
    #[must_use]
    pub fn jid(&self) -> Option<&str> {
        self.jid.as_deref()
    }

    pub(super) fn send(&self, element: String) {
        // The client may be gone.
        let _ = self.sink.send(Out::Element(element));
    }

    pub(super) fn close(&self, condition: &str) {
        self.send(stream_error(condition));
        let _ = self.sink.send(Out::Close);
    }

    /// Ends the client's presence; everyone online is told, as all are on each other's rosters.
    pub fn go_offline(&mut self) {
        let Some(jid) = self.jid.take() else { return };
        let mut shared = self.server.lock();
        if shared
            .online
            .get(&jid)
            .is_none_or(|online| online.stream != self.number)
        {
            // Another stream has the JID now.
            return;
        }
        shared.online.remove(&jid);
        let gone = format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{}'/>",
            escape(&jid)
        );
        for other in shared.online.values() {
            let _ = other.sink.send(Out::Element(gone.clone()));
        }
    }

    pub(super) fn come_online(&mut self, jid: &str) {
        self.go_offline();
        let online = Online {
            sink: self.sink.clone(),
            stream: self.number,
            available: false,
        };
        let old = self.server.lock().online.insert(jid.to_owned(), online);
        if let Some(old) = old {
            // It may be ending already.
            let _ = old.sink.send(Out::Element(stream_error("conflict")));
            let _ = old.sink.send(Out::Close);
        }
        self.jid = Some(jid.to_owned());
    }

    /// Takes in one element, standalone but for `jabber:client`.
    pub fn feed(&mut self, element: &str) {
        if let Some(jid) = &self.jid {
            self.server.lock().record(jid, element);
        }
        let name = tag::name(element);
        // The hot path: a message between two users needs no document.
        if name == "message" && self.jid.is_some() {
            return self.route(element, name);
        }
        let Ok(document) = roxmltree::Document::parse(element) else {
            return self.close("not-well-formed");
        };
        let root = document.root_element();
        match root.tag_name().name() {
            "auth" | "authenticate" | "response" | "abort" => self.sasl(root),
            "iq" => self.iq(root, element),
            "presence" => self.presence(root, element),
            "message" => self.route(element, "message"),
            _ => self.close("unsupported-stanza-type"),
        }
    }

    fn presence(&self, presence: roxmltree::Node<'_, '_>, element: &str) {
        let Some(jid) = &self.jid else {
            return self.close("not-authorized");
        };
        if presence.has_attribute("to") {
            return self.route(element, "presence");
        }
        let kind = presence.attribute("type");
        let waiting = {
            let mut shared = self.server.lock();
            if let Some(online) = shared.online.get_mut(jid) {
                online.available = kind.is_none();
            }
            shared.waiting.remove(bare(jid)).filter(|_| kind.is_none())
        };
        if kind.is_none() {
            let jid = escape(jid);
            self.send(format!(
                "<presence xmlns='jabber:client' from='{jid}' to='{jid}'/>"
            ));
        }
        for message in waiting.into_iter().flatten() {
            self.send(message);
        }
    }

    /// Passes an element on to its `to`, stamped with `from`; `echo` sends messages back.
    pub(super) fn route(&self, element: &str, name: &str) {
        let Some(jid) = &self.jid else {
            return self.close("not-authorized");
        };
        let Some(to) = tag::attribute(element, "to") else {
            return;
        };
        let account = bare(to);
        if account.strip_suffix(&*self.server.domain) == Some("echo@") {
            if name == "message" && tag::attribute(element, "type") != Some("error") {
                let back = tag::with_attribute(element, "to", &escape(jid));
                self.send(tag::with_attribute(&back, "from", account));
            }
            return;
        }
        let stamped = tag::with_attribute(element, "from", &escape(jid));
        let mut shared = self.server.lock();
        if let Some(target) = shared.target(to) {
            // It may be ending.
            let _ = target.sink.send(Out::Element(stamped));
            return;
        }
        let kind = tag::attribute(element, "type").unwrap_or_default();
        let known = account
            .split_once('@')
            .is_some_and(|(user, _)| shared.users.contains_key(user));
        if name == "message" && shared.options.offline && known && kind != "error" {
            shared
                .waiting
                .entry(account.to_owned())
                .or_default()
                .push(stamped);
        } else if name == "message" && kind != "error"
            || name == "iq" && matches!(kind, "get" | "set")
        {
            drop(shared);
            let id = tag::attribute(element, "id").unwrap_or_default();
            self.send(format!(
                "<{name} xmlns='jabber:client' type='error' id='{id}' from='{to}' to='{}'><error type='cancel'>\
                 <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></{name}>",
                escape(jid)
            ));
        }
    }
}

pub(super) use crate::client::escape;
