//! Namespaces while an element is read: declarations in force, what a prefix means, attributes that stand twice.

use std::ops::Range;

use super::super::element::Namespace;
use super::super::token::{Name, RawAttribute, StartTag};
use super::super::{XmlError, escape};
use super::{Declaration, Framer, NS_XML, NS_XMLNS};

impl Framer {
    /// The prefix that this attribute declares, empty for the default; `None` for an ordinary attribute.
    pub(super) fn declared_prefix(
        &self,
        attribute: &RawAttribute,
    ) -> Result<Option<Range<usize>>, XmlError> {
        let prefix = self.str(&attribute.name.prefix);
        let local = self.str(&attribute.name.local);
        let declares_default = prefix.is_empty() && local == "xmlns";
        if !declares_default && prefix != "xmlns" {
            return Ok(None);
        }
        let uri = escape::attribute_value(self.str(&attribute.value));
        let allowed = if declares_default {
            uri != NS_XML && uri != NS_XMLNS
        } else {
            local != "xmlns"
                && !uri.is_empty()
                && uri != NS_XMLNS
                && (local == "xml") == (uri == NS_XML)
        };
        if !allowed {
            return Err(XmlError::NotWellFormed(
                "a namespace declaration that is not allowed",
            ));
        }
        let range = if declares_default {
            attribute.name.prefix.clone()
        } else {
            attribute.name.local.clone()
        };
        Ok(Some(range))
    }

    pub(super) fn declaration(&self, prefix: &[u8]) -> Option<&Declaration> {
        self.declarations
            .iter()
            .rev()
            .find(|d| &self.buf[d.prefix.clone()] == prefix)
    }

    pub(super) fn resolve_element(&mut self, name: &Name) -> Result<Namespace, XmlError> {
        if !name.prefix.is_empty() {
            return self.resolve_prefix(&name.prefix.clone());
        }
        match self.declaration(b"") {
            Some(declaration) => Ok(own(self.str(&declaration.uri))),
            None => {
                if let Some(facts) = &mut self.facts {
                    facts.uses_outer_default = true;
                }
                Ok(Namespace::OuterDefault)
            }
        }
    }

    /// The namespace of a prefix (S-27); notes the use of one that the root declares.
    pub(super) fn resolve_prefix(&mut self, prefix: &Range<usize>) -> Result<Namespace, XmlError> {
        let name = &self.buf[prefix.clone()];
        if name == b"xml" {
            return Ok(own(NS_XML));
        }
        if name == b"xmlns" {
            return Err(XmlError::NotWellFormed("an element with prefix xmlns"));
        }
        if let Some(declaration) = self.declaration(name) {
            return Ok(own(self.str(&declaration.uri)));
        }
        let index = self
            .scope
            .index_of(name)
            .and_then(|index| u16::try_from(index).ok());
        let Some(index) = index else {
            return Err(XmlError::NotWellFormed("an undeclared prefix"));
        };
        if let Some(facts) = &mut self.facts
            && !facts.outer_prefixes.contains(&index)
        {
            facts.outer_prefixes.push(index);
        }
        Ok(Namespace::OuterPrefix(index))
    }

    /// The namespace of an attribute whose prefix is known to be declared.
    pub(super) fn attribute_namespace(&self, name: &Name) -> Result<String, XmlError> {
        match self.str(&name.prefix) {
            "" => Ok(String::new()),
            "xml" => Ok(NS_XML.to_owned()),
            prefix => Ok(match self.declaration(prefix.as_bytes()) {
                Some(declaration) => {
                    escape::attribute_value(self.str(&declaration.uri)).into_owned()
                }
                None => self.scope.prefix(prefix).unwrap_or_default().to_owned(),
            }),
        }
    }

    /// No attribute twice, neither by name nor by namespace and local name.
    pub(super) fn check_unique(
        &self,
        tag: &StartTag,
        namespace: impl Fn(&Name) -> Result<String, XmlError>,
    ) -> Result<(), XmlError> {
        let mut seen: Vec<(&[u8], &[u8], Option<String>)> = Vec::new();
        for attribute in &tag.attributes {
            let prefix = &self.buf[attribute.name.prefix.clone()];
            let local = &self.buf[attribute.name.local.clone()];
            let uri = match prefix {
                b"" | b"xmlns" => None,
                _ => Some(namespace(&attribute.name)?),
            };
            let again = |(other, name, bound): &(&[u8], &[u8], Option<String>)| {
                *name == local && (*other == prefix || uri.is_some() && *bound == uri)
            };
            if seen.iter().any(again) {
                return Err(XmlError::NotWellFormed("an attribute that stands twice"));
            }
            seen.push((prefix, local, uri));
        }
        Ok(())
    }
}

fn own(uri: &str) -> Namespace {
    match escape::attribute_value(uri).as_ref() {
        "" => Namespace::None,
        "jabber:client" => Namespace::Client,
        uri => Namespace::Own(uri.into()),
    }
}
