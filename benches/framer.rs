//! How fast elements pass through the XML layer, in bytes of XML per second.

use std::fmt::Write as _;
use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xbosh::xml::{Frame, Framer, Limits, RootText};

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 20,
    max_header_bytes: 16 << 10,
    max_depth: 128,
    max_attributes: 256,
};

const STREAM: &str = "<?xml version='1.0'?><stream:stream from='juliet@example.com' to='example.com' version='1.0' \
    xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const BODY: &str = "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams' \
    sid='SomeSID' ack='1249243562'>";

/// One of each of what a chatting client mostly sends and gets.
fn mix(xmlns: &str) -> String {
    let message = |text: &str| {
        format!(
            "<message{xmlns} from='romeo@montague.example/home' to='juliet@capulet.example' type='chat' id='6410ed123'>\
             <body>{text}</body><active xmlns='http://jabber.org/protocol/chatstates'/>\
             <origin-id xmlns='urn:xmpp:sid:0' id='de305d54-75b4-431b-adb2-eb6b9e546013'/>\
             <request xmlns='urn:xmpp:receipts'/></message>"
        )
    };
    let mut roster = String::new();
    for i in 0..40 {
        let _ = write!(
            roster,
            "<item jid='friend{i}@example.net' name='Friend &amp; {i}' subscription='both'><group>Verona</group></item>"
        );
    }
    [
        message("Wherefore art thou, Romeo? Deny thy father &amp; refuse thy name"),
        message("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43a}\u{430}\u{43a} \u{434}\u{435}\u{43b}\u{430}? \u{1F339}"),
        format!("<message{xmlns} to='romeo@montague.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"),
        format!(
            "<presence{xmlns} from='nurse@capulet.example/kitchen'><show>away</show><priority>5</priority>\
             <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://code.google.com/p/exodus' \
             ver='QgayPKawpkPSDYmwT/WM94uAlu0='/><x xmlns='vcard-temp:x:update'><photo>sha1</photo></x></presence>"
        ),
        format!("<iq{xmlns} type='get' id='ping-1'><ping xmlns='urn:xmpp:ping'/></iq>"),
        format!("<iq{xmlns} type='result' id='roster-1'><query xmlns='jabber:iq:roster' ver='ver7'>{roster}</query></iq>"),
        format!(
            "<message{xmlns} to='juliet@capulet.example'><encrypted xmlns='eu.siacs.conversations.axolotl'>\
             <header sid='27183'><key rid='31415'>{}</key></header><payload>{}</payload></encrypted></message>",
            "MwohBfRqBm".repeat(20),
            "QUJDREVGR0".repeat(80),
        ),
    ]
    .concat()
}

/// Reads `root` and `rest` in reads of `read` bytes and does `each` to every element.
fn run(root: &str, rest: &[u8], read: usize, mut each: impl FnMut(&xbosh::xml::Element)) {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    framer.push(root.as_bytes());
    for chunk in rest.chunks(read) {
        framer.push(chunk);
        while let Ok(Some(frame)) = framer.next_frame() {
            if let Frame::Element(element) = &frame {
                each(element);
            }
        }
    }
}

fn bench(c: &mut Criterion) {
    let stanzas = mix("").repeat(20);
    let mut group = c.benchmark_group("framer");
    group.throughput(Throughput::Bytes(stanzas.len() as u64));
    for read in [16, 1460, 16 * 1024] {
        group.bench_with_input(BenchmarkId::new("stream", read), &read, |b, read| {
            b.iter(|| {
                run(STREAM, stanzas.as_bytes(), *read, |element| {
                    black_box(element.len());
                })
            });
        });
    }
    group.bench_function("stream to body", |b| {
        let mut out = BytesMut::new();
        b.iter(|| {
            run(STREAM, stanzas.as_bytes(), 1460, |element| {
                out.clear();
                element.write_for_body(Some("en"), &mut out);
                black_box(&out);
            });
        });
    });
    let stanzas = mix(" xmlns='jabber:client'").repeat(20);
    group.throughput(Throughput::Bytes(stanzas.len() as u64));
    group.bench_function("body to stream", |b| {
        let mut out = BytesMut::new();
        b.iter(|| {
            run(BODY, stanzas.as_bytes(), usize::MAX, |element| {
                out.clear();
                element.write_for_stream(None, &mut out);
                black_box(&out);
            });
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
