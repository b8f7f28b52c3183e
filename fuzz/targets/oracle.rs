//! Two independent XML parsers. Both err: rxml in the characters of some names, roxmltree in that it takes what XMPP
//! forbids. What both refuse is no XML, what both accept is.

use roxmltree::{Document, Node};
use rxml::{Parse as _, WithOptions as _};

/// Whether one of them reads `input` as one complete document.
pub fn some_accept(input: &[u8]) -> bool {
    rxml_accepts(input) || roxmltree_accepts(input)
}

/// Whether one of them does not.
pub fn some_refuse(input: &[u8]) -> bool {
    !rxml_accepts(input) || !roxmltree_accepts(input)
}

fn rxml_accepts(input: &[u8]) -> bool {
    let options = rxml::Options {
        max_token_length: 1 << 20,
        ..rxml::Options::default()
    };
    let mut parser = rxml::Parser::with_options(options);
    let mut rest = input;
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn roxmltree_accepts(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    // It does not know that elements may have the prefix `xml`, which needs no declaration.
    let text = text.replace("<xml:", "<").replace("</xml:", "</");
    Document::parse(&text).is_ok()
}

/// Elements, attributes and text, whatever the prefixes; where the namespace is one of `from` it counts as `to`.
pub fn infoset(node: Node<'_, '_>, from: &[&str], to: &str) -> String {
    let mut out = String::new();
    write_infoset(node, from, to, &mut out);
    out
}

fn write_infoset(node: Node<'_, '_>, from: &[&str], to: &str, out: &mut String) {
    if let Some(text) = node.text().filter(|_| node.is_text()) {
        out.push_str(&format!("{text:?}"));
        return;
    }
    let namespace = node.tag_name().namespace().unwrap_or_default();
    let shown = if from.contains(&namespace) {
        to
    } else {
        namespace
    };
    let mut attributes: Vec<_> = node
        .attributes()
        .map(|a| (a.namespace(), a.name(), a.value()))
        .collect();
    attributes.sort_unstable();
    out.push_str(&format!(
        "({{{shown}}}{} {attributes:?}",
        node.tag_name().name()
    ));
    for child in node.children() {
        write_infoset(child, from, to, out);
    }
    out.push(')');
}
