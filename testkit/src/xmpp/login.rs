//! Logging in: SASL with its old and its new profile.

use roxmltree::Node;

use super::sasl::{self, First, Hash, Scram};
use super::stream::{Stream, escape};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const SASL2: &str = "urn:xmpp:sasl:2";

/// How far a login is.
#[derive(Debug, Default)]
pub(super) struct Login {
    scram: Option<Scram>,
    /// SASL2; the inner option is the tag of a Bind 2 request.
    new_profile: Option<Option<String>>,
}

impl Stream {
    /// One SASL element.
    pub(super) fn sasl(&mut self, root: Node<'_, '_>) {
        if self.user.is_some() {
            return self.close("policy-violation");
        }
        let name = root.tag_name().name();
        if matches!(name, "auth" | "authenticate") {
            let bind = root
                .children()
                .find(|c| c.has_tag_name(("urn:xmpp:bind:0", "bind")));
            let tag = bind.map(|bind| {
                let tag = bind
                    .children()
                    .find(|c| c.has_tag_name(("urn:xmpp:bind:0", "tag")));
                tag.and_then(|t| t.text()).unwrap_or("client").to_owned()
            });
            self.login = Login {
                scram: None,
                new_profile: (name == "authenticate").then_some(tag),
            };
        }
        let text = match name {
            "authenticate" => root
                .children()
                .find(|c| c.has_tag_name((SASL2, "initial-response")))
                .and_then(|r| r.text()),
            _ => root.text(),
        };
        let outcome = match sasl::decode(text.unwrap_or_default()) {
            None => Err("incorrect-encoding"),
            Some(_) if name == "abort" => Err("aborted"),
            Some(message) if name == "response" => self.scram_last(&message).map(Some),
            Some(message) => self.first(root.attribute("mechanism").unwrap_or_default(), &message),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(last)) => self.success(&last),
            Err(condition) => {
                let namespace = self.namespace();
                self.login = Login::default();
                let inner = format!("<{condition} xmlns='{SASL}'/>");
                self.send(format!("<failure xmlns='{namespace}'>{inner}</failure>"));
            }
        }
    }

    const fn namespace(&self) -> &'static str {
        if self.login.new_profile.is_some() {
            SASL2
        } else {
            SASL
        }
    }

    /// The client's first message; `None`: the login goes on.
    fn first(&mut self, mechanism: &str, message: &str) -> Result<Option<String>, &'static str> {
        if !self.server.options().mechanisms.contains(&mechanism) {
            return Err("invalid-mechanism");
        }
        match (mechanism, Hash::of(mechanism)) {
            ("PLAIN", _) => {
                let (user, password) = sasl::plain(message).ok_or("malformed-request")?;
                if !self.server.has_password(&user, &password) {
                    return Err("not-authorized");
                }
                self.user = Some(user);
                Ok(Some(String::new()))
            }
            ("ANONYMOUS", _) => {
                self.user = Some(format!("guest{}", self.server.fresh()));
                Ok(Some(String::new()))
            }
            (_, Some(hash)) => {
                let first = First::read(message).ok_or("malformed-request")?;
                // RFC 5802 section 6: somebody has taken what binds the channel out of the list.
                let binds = self.server.options().mechanisms;
                if message.starts_with('y') && binds.iter().any(|name| name.ends_with("-PLUS")) {
                    return Err("not-authorized");
                }
                let salted = self
                    .server
                    .salted(&first.user, hash)
                    .ok_or("not-authorized")?;
                let nonce = format!("server{:08x}", self.server.fresh());
                let salt = first.user.clone().into_bytes();
                let (login, challenge) = Scram::challenge(hash, &first, salted, &salt, &nonce);
                self.login.scram = Some(login);
                let namespace = self.namespace();
                self.send(format!(
                    "<challenge xmlns='{namespace}'>{}</challenge>",
                    sasl::encode(&challenge)
                ));
                Ok(None)
            }
            _ => Err("invalid-mechanism"),
        }
    }

    fn scram_last(&mut self, message: &str) -> Result<String, &'static str> {
        let login = self.login.scram.take().ok_or("malformed-request")?;
        let last = login.verify(message)?;
        self.user = Some(login.user);
        Ok(last)
    }

    fn success(&mut self, last: &str) {
        let last = if last.is_empty() {
            String::new()
        } else {
            sasl::encode(last)
        };
        let Some(bind) = std::mem::take(&mut self.login).new_profile else {
            return self.send(format!("<success xmlns='{SASL}'>{last}</success>"));
        };
        let user = self.user.clone().unwrap_or_default();
        let account = format!("{user}@{}", self.server.domain());
        let (identity, bound) = match bind {
            Some(tag) => {
                let jid = format!("{account}/{tag}~{}", self.server.fresh());
                self.come_online(&jid);
                (jid, "<bound xmlns='urn:xmpp:bind:0'/>")
            }
            None => (account, ""),
        };
        let additional = if last.is_empty() {
            String::new()
        } else {
            format!("<additional-data>{last}</additional-data>")
        };
        self.send(format!(
            "<success xmlns='{SASL2}'>{additional}<authorization-identifier>{}</authorization-identifier>{bound}</success>",
            escape(&identity)
        ));
        // XEP-0388 section 2.6: features follow without a restart.
        let features = self.features();
        self.send(features);
    }
}
