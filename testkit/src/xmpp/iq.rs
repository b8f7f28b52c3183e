//! Questions to the server itself.

use roxmltree::Node;
use sha1::{Digest as _, Sha1};

use super::stream::{Stream, escape};

impl Stream {
    /// One `<iq/>`.
    pub(super) fn iq(&mut self, iq: Node<'_, '_>, element: &str) {
        let kind = iq.attribute("type").unwrap_or_default();
        let own = |to: &str| {
            let account = self
                .user
                .as_ref()
                .map(|user| format!("{user}@{}", self.server.domain()));
            to == self.server.domain() || account.as_deref() == Some(to)
        };
        if self.jid().is_some() && iq.attribute("to").is_some_and(|to| !own(to)) {
            return self.route(element, "iq");
        }
        if !matches!(kind, "get" | "set") {
            return;
        }
        let id = escape(iq.attribute("id").unwrap_or_default());
        let reply = match self.answer(iq, kind) {
            Ok(inner) => format!("<iq xmlns='jabber:client' type='result' id='{id}'>{inner}</iq>"),
            Err((class, condition)) => format!(
                "<iq xmlns='jabber:client' type='error' id='{id}'><error type='{class}'>\
                 <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            ),
        };
        self.send(reply);
    }

    fn answer(
        &mut self,
        iq: Node<'_, '_>,
        kind: &str,
    ) -> Result<String, (&'static str, &'static str)> {
        let payload = iq.first_element_child();
        let namespace = payload
            .and_then(|p| p.tag_name().namespace())
            .unwrap_or_default();
        let field = |name: &str| {
            let found = payload?.children().find(|c| c.tag_name().name() == name)?;
            Some(found.text().unwrap_or_default().to_owned())
        };
        let options = self.server.options();
        match (namespace, self.user.clone()) {
            ("urn:ietf:params:xml:ns:xmpp-bind", Some(user)) => {
                let resource = field("resource").filter(|r| !r.is_empty());
                let jid = self.bind(&user, resource);
                Ok(format!(
                    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind>"
                ))
            }
            ("urn:ietf:params:xml:ns:xmpp-session" | "urn:xmpp:ping", Some(_)) => Ok(String::new()),
            ("jabber:iq:roster", Some(_)) if kind == "get" => {
                Ok("<query xmlns='jabber:iq:roster'/>".to_owned())
            }
            ("jabber:iq:auth", None) if options.legacy_auth => self.legacy(kind, &field),
            ("jabber:iq:register", None) if options.registration => {
                if kind == "get" {
                    return Ok(
                        "<query xmlns='jabber:iq:register'><username/><password/></query>"
                            .to_owned(),
                    );
                }
                let (Some(user), Some(password)) = (field("username"), field("password")) else {
                    return Err(("modify", "not-acceptable"));
                };
                if self.server.lock().users.contains_key(&user) {
                    return Err(("cancel", "conflict"));
                }
                self.server.add_user(&user, &password);
                Ok(String::new())
            }
            (_, None) => Err(("auth", "not-authorized")),
            _ => Err(("cancel", "service-unavailable")),
        }
    }

    fn bind(&mut self, user: &str, resource: Option<String>) -> String {
        let resource = resource.unwrap_or_else(|| format!("r{}", self.server.fresh()));
        let jid = format!("{user}@{}/{resource}", self.server.domain());
        self.come_online(&jid);
        escape(&jid)
    }

    /// XEP-0078.
    fn legacy(
        &mut self,
        kind: &str,
        field: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, (&'static str, &'static str)> {
        if kind == "get" {
            return Ok(
                "<query xmlns='jabber:iq:auth'><username/><password/><digest/><resource/></query>"
                    .to_owned(),
            );
        }
        let user = field("username").ok_or(("modify", "not-acceptable"))?;
        let resource = field("resource").ok_or(("modify", "not-acceptable"))?;
        let known = self.server.lock().users.get(&user).cloned();
        let password = known.ok_or(("auth", "not-authorized"))?;
        let digest: String = Sha1::digest(format!("{}{password}", self.id))
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if field("password").as_ref() != Some(&password) && field("digest") != Some(digest) {
            return Err(("auth", "not-authorized"));
        }
        self.user = Some(user.clone());
        self.bind(&user, Some(resource));
        Ok(String::new())
    }
}
