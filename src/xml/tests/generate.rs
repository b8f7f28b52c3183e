//! Documents from a tape of numbers: each choice takes one, and an exhausted tape chooses the first.

use proptest::prelude::*;

use crate::xml::ns;

/// Enough choices for a few elements.
pub(super) fn tape() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..160)
}

/// Choices read off a tape, and the prefixes in force.
pub(super) struct Writer<'a> {
    tape: &'a [u8],
    pub(super) out: String,
    /// Prefix and namespace; the latest counts.
    prefixes: Vec<(&'static str, &'static str)>,
}

const PREFIXES: [&str; 4] = ["p", "q", "stream", "\u{e9}t\u{e9}"];
const NAMESPACES: [&str; 5] = ["urn:a", "urn:b", ns::STREAMS, ns::CLIENT, "urn:a&amp;b"];
const LOCALS: [&str; 7] = [
    "message",
    "iq",
    "a",
    "error",
    "features",
    "b-1.c_",
    "\u{3b1}\u{b7}",
];
const TEXTS: [&str; 12] = [
    "",
    "x",
    " ",
    "\r\n",
    "&lt;",
    "&#x1F339;",
    "<![CDATA[<&]]&gt;]]>",
    "]] >",
    "\u{e4}\u{2603}",
    "\"'",
    "&apos;&#13;",
    "\t\u{7f}\u{fffd}",
];
const VALUES: [&str; 8] = [
    "",
    "v",
    "&amp;",
    ">",
    "a\r\n\tb",
    "&#9;&#xA;",
    "\u{e4}\u{10ffff}",
    "&quot;&apos;",
];

impl<'a> Writer<'a> {
    /// `prefixes` are declared on the root.
    pub(super) fn new(tape: &'a [u8], prefixes: &[(&'static str, &'static str)]) -> Self {
        Self {
            tape,
            out: String::new(),
            prefixes: prefixes.to_vec(),
        }
    }

    pub(super) fn done(&self) -> bool {
        self.tape.is_empty()
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        let Some((first, rest)) = self.tape.split_first() else {
            return from[0];
        };
        self.tape = rest;
        from[usize::from(*first) % from.len()]
    }

    /// What stands for `prefix` here.
    fn resolve(&self, prefix: &str) -> Option<&'static str> {
        self.prefixes
            .iter()
            .rfind(|(known, _)| *known == prefix)
            .map(|(_, name)| *name)
    }

    fn usable_prefix(&mut self) -> Option<&'static str> {
        let prefix = self.choose(&PREFIXES);
        self.resolve(prefix).map(|_| prefix)
    }

    /// One well-formed element.
    pub(super) fn element(&mut self, depth: usize) {
        let outer = self.prefixes.len();
        let mut declarations = String::new();
        if self.choose(&[false, false, true]) {
            let namespace = self.choose(&[
                NAMESPACES[0],
                NAMESPACES[2],
                NAMESPACES[3],
                NAMESPACES[4],
                "",
            ]);
            declarations.push_str(&format!(" xmlns='{namespace}'"));
        }
        if self.choose(&[false, false, true]) {
            let (prefix, namespace) = (self.choose(&PREFIXES), self.choose(&NAMESPACES));
            declarations.push_str(&format!("\n xmlns:{prefix} = \"{namespace}\""));
            self.prefixes.push((prefix, namespace));
        }
        let local = self.choose(&LOCALS);
        let prefixed = self.choose(&[false, false, true]);
        let name = match if prefixed { self.usable_prefix() } else { None } {
            Some(prefix) => format!("{prefix}:{local}"),
            None => local.to_owned(),
        };
        let mut attributes = String::new();
        if self.choose(&[false, true]) {
            attributes.push_str(&format!(" to='{}'", self.choose(&VALUES)));
        }
        if self.choose(&[false, true]) {
            attributes.push_str(&format!("\t\r\nb-2 =\n\"{}\"", self.choose(&VALUES)));
        }
        if self.choose(&[false, false, true]) {
            attributes.push_str(" xml:lang='de'");
        }
        if self.choose(&[false, false, true])
            && let Some(prefix) = self.usable_prefix()
        {
            attributes.push_str(&format!(" {prefix}:c='{}'", self.choose(&VALUES)));
        }
        let tag = if self.choose(&[true, false]) {
            declarations + &attributes
        } else {
            attributes + &declarations
        };
        let blank = self.choose(&["", " ", "\n"]);
        self.out.push_str(&format!("<{name}{tag}{blank}"));
        let children = if depth >= 4 {
            0
        } else {
            self.choose(&[0, 1, 2, 3])
        };
        if children == 0 && self.choose(&[true, false]) {
            self.out.push_str("/>");
        } else {
            self.out.push('>');
            for _ in 0..children {
                let text = self.choose(&TEXTS);
                self.out.push_str(text);
                self.element(depth + 1);
            }
            let text = self.choose(&TEXTS);
            self.out.push_str(text);
            let blank = self.choose(&["", " "]);
            self.out.push_str(&format!("</{name}{blank}>"));
        }
        self.prefixes.truncate(outer);
    }
}

/// A whole stream.
pub(super) fn document(tape: &[u8]) -> String {
    let mut writer = Writer::new(tape, &[("stream", ns::STREAMS), ("p", "urn:p")]);
    let declaration = writer.choose(&[
        "",
        "<?xml version='1.0'?>",
        "<?xml version=\"1.0\" encoding='UTF-8' ?>\n",
    ]);
    let root = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:p='urn:p'>";
    writer.out = format!("{declaration}{root}");
    while !writer.done() {
        let between = writer.choose(&["", " ", "\n"]);
        writer.out.push_str(between);
        writer.element(0);
    }
    writer.out + "</stream:stream>"
}
