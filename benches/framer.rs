//! How fast a client's stream is cut into elements, and moved into a body.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xbosh::xml::{Frame, Framer, Limits, RootText};

mod stanzas;

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 18,
    max_header_bytes: 1 << 14,
    max_depth: 128,
    max_attributes: 256,
};

fn stream(copies: usize) -> Vec<u8> {
    let header = "<?xml version='1.0'?><stream:stream to='a.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    let mut text = header.to_owned();
    for _ in 0..copies {
        for stanza in stanzas::ALL {
            text.push_str(stanza);
            text.push('\n');
        }
    }
    text.push_str("</stream:stream>");
    text.into_bytes()
}

fn cut(stream: &[u8], read: usize, mut each: impl FnMut(Frame)) {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    for part in stream.chunks(read) {
        framer.push(part);
        while let Some(frame) = framer.next_frame().unwrap() {
            each(frame);
        }
    }
}

fn framer(c: &mut Criterion) {
    let stream = stream(100);
    let mut group = c.benchmark_group("framer");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    for (name, read) in [
        ("reads of 8 KiB", 8192),
        ("reads of 64 bytes", 64),
        ("one read", stream.len()),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| cut(&stream, read, |frame| drop(black_box(frame))));
        });
    }
    let mut out = BytesMut::new();
    group.bench_function("and moved", |b| {
        b.iter(|| {
            cut(&stream, 8192, |frame| {
                if let Frame::Element(element) = frame {
                    element.write_for_body(Some("en"), &mut out);
                    black_box(&out);
                    out.clear();
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, framer);
criterion_main!(benches);
