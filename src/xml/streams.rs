//! Elements of the streams namespace on their way to the client: many clients know them by the prefix `stream` alone.

use bytes::{BufMut, BytesMut};

use super::element::Resolver;
use super::scope::write_declaration;
use super::walk::{Token, Walk, split_name};
use super::{Element, ns};

/// Writes `element` with every element of the streams namespace in it named `stream:…` (S-32).
///
/// Writes nothing and returns false if the prefix `stream` stands for something else in it.
pub(super) fn write(element: &Element, lang: Option<&str>, out: &mut BytesMut) -> bool {
    let Some(kept) = prefixes_kept(element) else {
        return false;
    };
    let bytes = element.bytes();
    let mut resolver = Resolver::new(element.scope());
    // For each open element whether it was renamed.
    let mut renamed = Vec::new();
    for token in Walk::new(bytes) {
        let started = resolver.step(&token);
        match token {
            Token::Start { name, tag } => {
                let in_streams = started.is_some_and(|(namespace, _)| namespace == ns::STREAMS);
                out.put_u8(b'<');
                write_name(name, in_streams, out);
                let top = resolver.depth() == 1;
                if top {
                    if element.scope().default_namespace() != ns::STREAMS {
                        element.write_stream_default(out);
                    }
                    for (prefix, namespace) in &kept {
                        write_declaration(prefix, namespace, out);
                    }
                    element.write_lang(lang, out);
                }
                for attribute in tag.attributes() {
                    // Whatever was in that default namespace has a prefix now.
                    let spare = attribute.name == "xmlns"
                        && (attribute.raw == ns::STREAMS || top && attribute.raw == ns::CLIENT);
                    if !spare {
                        out.put_slice(attribute.span.of(bytes));
                    }
                }
                out.put_slice(tag.tail().of(bytes));
                if !tag.empty {
                    renamed.push(in_streams);
                }
            }
            Token::End { name, span } => {
                if renamed.pop() == Some(true) {
                    out.put_slice(b"</");
                    write_name(name, true, out);
                    out.put_u8(b'>');
                } else {
                    out.put_slice(span.of(bytes));
                }
            }
            Token::Text { span, .. } | Token::Cdata { span, .. } => out.put_slice(span.of(bytes)),
        }
        resolver.settle(&token);
    }
    true
}

fn write_name(name: &str, in_streams: bool, out: &mut BytesMut) {
    if in_streams {
        out.put_slice(b"stream:");
        out.put_slice(split_name(name).1.as_bytes());
    } else {
        out.put_slice(name.as_bytes());
    }
}

/// The outer prefixes that are still used when the elements of the streams namespace are renamed, with what they stand
/// for; `None` if renaming would collide.
fn prefixes_kept(element: &Element) -> Option<Vec<(&str, &str)>> {
    let mut resolver = Resolver::new(element.scope());
    let mut used: Vec<&str> = Vec::new();
    let mut collides = false;
    for token in Walk::new(element.bytes()) {
        let started = resolver.step(&token);
        if let (Token::Start { name, tag }, Some((namespace, _))) = (&token, started) {
            let element_prefix = if namespace == ns::STREAMS {
                ""
            } else {
                split_name(name).0
            };
            let attribute_prefixes = tag
                .attributes()
                .map(|a| split_name(a.name).0)
                .filter(|p| *p != "xmlns");
            for prefix in attribute_prefixes.chain([element_prefix]) {
                if !prefix.is_empty() && resolver.declared(prefix).is_none() {
                    used.push(prefix);
                }
            }
            collides |= resolver
                .declared("stream")
                .is_some_and(|namespace| namespace != ns::STREAMS);
        }
        resolver.settle(&token);
    }
    let kept: Vec<(&str, &str)> = element
        .outer_prefixes()
        .map(|(prefix, namespace)| (prefix, namespace.as_str()))
        .filter(|(prefix, _)| used.contains(prefix))
        .filter(|kept| *kept != ("stream", ns::STREAMS))
        .collect();
    collides |= kept.iter().any(|(prefix, _)| *prefix == "stream");
    (!collides).then_some(kept)
}
