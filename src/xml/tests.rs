//! Tests of the whole layer; [`generate`] makes documents from a tape of numbers, so that proptest can shrink them.

mod examples;
mod framing;
mod generate;
mod limits;
mod moving;
mod oracle;
mod refusal;

use proptest::test_runner::{Config, RngSeed};

use super::{Element, Frame, Framer, Header, Limits, RootText, XmlError};

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xml:lang='en' \
                      xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 20,
    max_header_bytes: 16 << 10,
    max_depth: 128,
    max_attributes: 256,
};

/// The same cases in every run, unless `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others.
pub(super) fn same_cases(cases: u32) -> Config {
    let asked = Config::default();
    Config {
        cases: if asked.cases == 256 {
            cases
        } else {
            asked.cases
        },
        rng_seed: match asked.rng_seed {
            RngSeed::Random => RngSeed::Fixed(0x0124_0206),
            seed @ RngSeed::Fixed(_) => seed,
        },
        failure_persistence: None,
        ..asked
    }
}

/// What a document came to: its frames, and how it failed.
type Outcome = (Vec<Frame>, Option<XmlError>);

/// Reads `chunks` with `framer`, restarting at each new document.
fn read<'a>(framer: &mut Framer, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => {
                    let restart = frame == Frame::NewDocument;
                    frames.push(frame);
                    if restart {
                        framer.restart();
                    }
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn read_whole(input: &str) -> Outcome {
    read(
        &mut Framer::new(LIMITS, RootText::Refuse),
        [input.as_bytes()],
    )
}

/// Reads `input` whole, byte by byte and cut in two at every place; all must come to the same.
fn read_every_split(input: &[u8], framer: impl Fn() -> Framer) -> Outcome {
    let whole = read(&mut framer(), [input]);
    assert_eq!(read(&mut framer(), input.chunks(1)), whole, "byte by byte");
    for cut in 1..input.len() {
        let (a, b) = input.split_at(cut);
        assert_eq!(read(&mut framer(), [a, b]), whole, "cut at {cut}");
    }
    whole
}

fn header(frame: &Frame) -> &Header {
    let Frame::Header(header) = frame else {
        panic!("not a header: {frame:?}")
    };
    header
}

fn element(frame: &Frame) -> &Element {
    let Frame::Element(element) = frame else {
        panic!("not an element: {frame:?}")
    };
    element
}

/// The first-level element `xml` under the root tag `root`.
fn element_in(root: &str, xml: &str) -> Element {
    let (frames, error) = read_whole(&format!("{root}{xml}"));
    assert_eq!(error, None, "{root}{xml}");
    element(&frames[1]).clone()
}
