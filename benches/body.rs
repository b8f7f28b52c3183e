//! How fast a body is written and read.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xbosh::bosh::body::{Head, decode, encode};
use xbosh::bosh::keys::RequestKeys;
use xbosh::bosh::params::{Rid, Sid};
use xbosh::xml::Limits;

mod stanzas;

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 18,
    max_header_bytes: 1 << 14,
    max_depth: 128,
    max_attributes: 256,
};

fn body(c: &mut Criterion) {
    let sid = Sid::new("a3f0c1e25b7d4e6f8091a2b3c4d5e6f7".to_owned());
    let write = |copies: usize| -> Bytes {
        let payload = (0..copies).flat_map(|_| stanzas::ALL).map(str::as_bytes);
        let head = Head {
            sid: &sid,
            rid: Rid(4_503_599_627),
            ack: Some(Rid(4_503_599_626)),
            keys: RequestKeys::default(),
        };
        encode(&head, false, payload)
    };
    for (name, copies) in [
        ("empty", 0),
        ("five stanzas", 1),
        ("five hundred stanzas", 100),
    ] {
        let bytes = write(copies);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("encode", |b| b.iter(|| write(black_box(copies))));
        group.bench_function("decode", |b| {
            b.iter(|| decode(black_box(&bytes), LIMITS).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, body);
criterion_main!(benches);
