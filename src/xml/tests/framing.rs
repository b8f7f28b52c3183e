//! What comes out of documents that are right.

use super::*;
use crate::xml::chars::VISITED;
use crate::xml::ns;
use proptest::prelude::*;

const LOGIN: &str = "<?xml version='1.0'?>\n<stream:stream from='juliet@im.example.com' to='im.example.com' version='1.0' \
    xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>\n\
    <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldAByMG0zMG15cjBtMzA=</auth> \r\n\
    <?xml version='1.0' encoding='utf-8'?><stream:stream to='im.example.com' version='1.0' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'><iq id='yhc13a95' type='set'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b\u{e4}lk\u{2603}n\u{1F339}</resource></bind></iq>\
    <message to='romeo@example.net'><body>a &lt; b &#x26; <![CDATA[<c>]]> ]] ></body></message>\
    <presence/></stream:stream>\n";

/// S-24: frames come in order, whole and untouched, however the bytes are split.
#[test]
fn a_login_gives_the_same_frames_for_every_split() {
    let (frames, error) =
        read_every_split(LOGIN.as_bytes(), || Framer::new(LIMITS, RootText::Refuse));
    assert_eq!(error, None);
    assert_eq!(frames.len(), 8);
    let first = header(&frames[0]);
    assert!(first.is(ns::STREAMS, "stream"));
    assert_eq!(first.prefix.as_deref(), Some("stream"));
    assert_eq!(first.attr("to"), Some("im.example.com"));
    assert_eq!(first.lang(), Some("en"));
    assert_eq!(first.scope.default_namespace(), ns::CLIENT);
    assert_eq!(first.scope.resolve("stream"), Some(ns::STREAMS));
    let auth = element(&frames[1]);
    assert!(auth.is(ns::SASL, "auth"));
    assert_eq!(auth.attr("mechanism").as_deref(), Some("PLAIN"));
    assert_eq!(auth.text().as_deref(), Some("AGp1bGlldAByMG0zMG15cjBtMzA="));
    assert_eq!(frames[2], Frame::NewDocument);
    assert_eq!(header(&frames[3]).lang(), None);
    let iq = element(&frames[4]);
    assert!(iq.is_stanza() && iq.is(ns::CLIENT, "iq"));
    assert_eq!(iq.child_names(), [(ns::BIND.to_owned(), "bind".to_owned())]);
    assert_eq!(iq.text(), None);
    let message = element(&frames[5]);
    assert!(LOGIN.contains(std::str::from_utf8(message.bytes()).unwrap()));
    assert_eq!(
        message.child_names(),
        [(ns::CLIENT.to_owned(), "body".to_owned())]
    );
    assert_eq!(element(&frames[6]).bytes().as_ref(), b"<presence/>");
    assert_eq!(frames[7], Frame::End);
}

/// S-14: any prefix, or none, for the stream namespace.
#[test]
fn header_styles() {
    for (root, prefix, default) in [
        (
            "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>",
            Some("s"),
            ns::CLIENT,
        ),
        (
            "<stream xmlns='http://etherx.jabber.org/streams'>",
            None,
            ns::STREAMS,
        ),
        (
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
            Some("stream"),
            "",
        ),
    ] {
        let (frames, error) = read_whole(root);
        assert_eq!(error, None);
        let found = header(&frames[0]);
        assert!(found.is(ns::STREAMS, "stream"));
        assert_eq!(found.prefix.as_deref(), prefix);
        assert_eq!(found.scope.default_namespace(), default);
    }
}

/// S-13: wrong roots and namespaces are facts for the caller, not errors.
#[test]
fn other_roots_are_read() {
    let (frames, _) = read_whole(
        "<stream:stream xmlns='jabber:server' xmlns:stream='urn:x' xmlns:db='jabber:server:dialback' a:b='1' xmlns:a='urn:a'>",
    );
    let found = header(&frames[0]);
    assert_eq!(
        (found.namespace.as_str(), found.scope.default_namespace()),
        ("urn:x", "jabber:server")
    );
    assert_eq!(found.scope.resolve("db"), Some("jabber:server:dialback"));
    assert_eq!(
        (found.attr("b"), found.attr_ns("urn:a", "b")),
        (None, Some("1"))
    );
    assert_eq!(found.attributes.len(), 1);
}

/// S-16, T-25: the rest of the buffer is the new document, which may start with blanks and a declaration, or without.
#[test]
fn restart_reads_on_behind_the_last_frame() {
    for (between, declaration) in [
        ("", "<?xml version='1.0'?>"),
        (" \r\n", "<?xml version='1.0'?>"),
        ("", ""),
        ("\n", ""),
    ] {
        let mut framer = Framer::new(LIMITS, RootText::Refuse);
        framer.push(
            format!("{HEADER}<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").as_bytes(),
        );
        assert!(framer.at_document_start());
        framer.next_frame().unwrap().unwrap();
        assert!(!framer.at_document_start());
        framer.next_frame().unwrap().unwrap();
        framer.push(
            format!("{between}{declaration}<stream:stream xmlns:stream='urn:s'><x/>").as_bytes(),
        );
        for _ in 0..3 {
            assert_eq!(
                framer.next_frame(),
                Ok(Some(Frame::NewDocument)),
                "said until the restart"
            );
        }
        framer.restart();
        assert!(framer.at_document_start());
        let frame = framer.next_frame().unwrap().unwrap();
        assert_eq!(header(&frame).namespace, "urn:s");
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Element(_)))));
        assert!(framer.is_idle());
    }
}

/// S-16: a restart before the first byte of the new document has come, and a client that closes instead.
#[test]
fn after_a_restart_the_client_may_close_instead() {
    let restarted = || {
        let mut framer = Framer::new(LIMITS, RootText::Refuse);
        assert_eq!(read(&mut framer, [HEADER.as_bytes()]).1, None);
        framer.restart();
        framer
    };
    assert_eq!(
        read_every_split(b" \n</stream:stream>", restarted),
        (vec![Frame::End], None)
    );
    assert_eq!(
        read_every_split(b"</stream>", restarted)
            .1
            .unwrap()
            .to_string(),
        "XML is not well-formed: end tag does not match its start tag"
    );
    assert!(matches!(
        read_whole("</stream:stream>").1,
        Some(XmlError::NotWellFormed(_))
    ));
}

/// S-21: blanks between first-level elements vanish, also by the megabyte.
#[test]
fn blanks_between_elements_are_swallowed() {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    read(&mut framer, [HEADER.as_bytes()]);
    for _ in 0..3 {
        framer.push(&vec![b'\n'; LIMITS.max_element_bytes + 1]);
        assert!(framer.is_idle());
        assert_eq!(framer.next_frame(), Ok(None));
        assert_eq!(framer.buffered(), 0);
    }
    let (frames, error) = read(&mut framer, [&b" \t\r\n<presence/> "[..]]);
    assert_eq!((frames.len(), error), (1, None));
}

#[test]
fn a_self_closed_root_gives_header_and_end() {
    let body = "<body xmlns='http://jabber.org/protocol/httpbind'/>";
    let (frames, error) =
        read_every_split(body.as_bytes(), || Framer::new(LIMITS, RootText::Refuse));
    assert_eq!(error, None);
    assert!(header(&frames[0]).is(ns::HTTPBIND, "body"));
    assert_eq!(frames[1..], [Frame::End]);
}

#[test]
fn what_follows_the_end_is_ignored_but_known() {
    for (tail, blank) in [
        ("", true),
        (" \n", true),
        ("x", false),
        ("<a/>", false),
        (" \n\u{0}", false),
    ] {
        let mut framer = Framer::new(LIMITS, RootText::Refuse);
        framer.push(format!("<a></a>{tail}").as_bytes());
        framer.next_frame().unwrap();
        assert_eq!(framer.next_frame(), Ok(Some(Frame::End)));
        assert_eq!(framer.trailing_is_blank(), blank, "{tail:?}");
        assert_eq!((framer.next_frame(), framer.buffered()), (Ok(None), 0));
        assert_eq!(framer.trailing_is_blank(), blank, "{tail:?}");
    }
}

/// B-11: a manager's explanation between the elements of a terminate body is kept, its first KiB.
#[test]
fn root_text_is_collected_when_asked_for() {
    let collect = || Framer::new(LIMITS, RootText::Collect);
    let body = "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate'>\n see &lt;other&#x3e; <a/> <![CDATA[h\u{f6}st]] ]]>]x\n</body>";
    let (frames, error) = read_every_split(body.as_bytes(), collect);
    assert_eq!((frames.len(), error), (3, None));
    let mut framer = collect();
    read(&mut framer, body.as_bytes().chunks(1));
    assert_eq!(framer.root_text(), "see <other>  h\u{f6}st]] ]x");
    let mut framer = collect();
    let (_, error) = read(&mut framer, [&b"<body>"[..], &[b'x'; 5000], b"</body>"]);
    assert_eq!((error, framer.root_text().len()), (None, 1024));
    for bad in ["<body>a]]>", "<body>\u{1}", "<body>&nbsp;"] {
        assert!(
            read_every_split(bad.as_bytes(), collect).1.is_some(),
            "{bad}"
        );
    }
}

/// Managers that do not declare `stream` or `xmpp`, or give an attribute twice, are still understood when asked for.
#[test]
fn lenient_reads_what_managers_get_wrong() {
    let lenient = || Framer::new(LIMITS, RootText::Collect).lenient();
    let body = "<body type='terminate' xmpp:version='1.0' condition='a' type='terminate' condition='b' \
        xmlns='http://jabber.org/protocol/httpbind'><stream:features><x xmlns='urn:x'/></stream:features></body>";
    let (frames, error) = read_every_split(body.as_bytes(), lenient);
    assert_eq!(error, None);
    let found = header(&frames[0]);
    assert_eq!(found.attr("condition"), Some("a"));
    assert_eq!(found.attr_ns(ns::XBOSH, "version"), Some("1.0"));
    assert!(element(&frames[1]).is(ns::STREAMS, "features"));
    let strict = || Framer::new(LIMITS, RootText::Collect);
    assert!(matches!(
        read_every_split(body.as_bytes(), strict).1,
        Some(XmlError::NotWellFormed(_))
    ));
    assert!(
        read_every_split(b"<body a:b='' xmlns='urn:x'/>", lenient)
            .1
            .is_some()
    );
    assert!(
        read_every_split(b"<body><a b='' b=''/></body>", lenient)
            .1
            .is_some()
    );
}

#[test]
fn take_rest_hands_over_what_follows_the_last_frame() {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    framer.push(
        format!("{HEADER}<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\u{16}\u{3}")
            .as_bytes(),
    );
    framer.next_frame().unwrap();
    framer.next_frame().unwrap();
    assert_eq!(framer.take_rest().as_ref(), b"\x16\x03");
    assert_eq!((framer.buffered(), framer.is_idle()), (0, true));
    framer.restart();
    assert!(matches!(
        read(&mut framer, [HEADER.as_bytes()]).0[..],
        [Frame::Header(_)]
    ));
}

#[test]
fn debug_shows_no_content() {
    let secret = element_in(
        HEADER,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' a='SECRET'>SECRET</auth>",
    );
    assert_eq!(format!("{secret:?}"), "Element(auth, 71 bytes)");
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    framer.push(b"<body sid='SECRET'>");
    assert!(!format!("{framer:?}").contains("SECRET"));
    assert!(!format!("{:?}", framer.next_frame()).contains("SECRET"));
}

/// The cost is linear in the input however it is split: each byte is looked at a few times at most.
#[test]
fn every_byte_is_looked_at_a_bounded_number_of_times() {
    let filler = "x".repeat(20_000);
    for body in [
        format!("<a>{filler}</a>"),
        format!("<a><![CDATA[{filler}]]></a>"),
        format!("<a b='{filler}'/>"),
        format!("<{filler}/>"),
        format!("<a>{}</a>", "&amp;".repeat(4_000)),
        format!("<a>{}</a>", "&#x0000000000000000000041;".repeat(800)),
        format!("<a>{}</a>", "\u{2603}".repeat(7_000)),
        format!("<a>{}</a>", "]".repeat(20_000)),
        format!("<a>{}</a>", "<b c='d'>e</b>".repeat(1_500)),
        format!("<a>{}</a>", " ".repeat(20_000)),
        format!("{}<a/>", " ".repeat(20_000)),
        format!("<a>x</a{}>", " ".repeat(20_000)),
    ] {
        let input = format!("{HEADER}{body}");
        VISITED.set(0);
        let (frames, error) = read(
            &mut Framer::new(LIMITS, RootText::Refuse),
            input.as_bytes().chunks(1),
        );
        assert_eq!((frames.len(), error), (2, None));
        let each = VISITED.get() / input.len();
        assert!(each <= 12, "{each} looks at each byte of {}", &body[..30]);
    }
}

proptest! {
    #![proptest_config(same_cases(256))]

    /// Any split gives the same frames and the same error, of right and of broken documents.
    #[test]
    fn any_split_gives_the_same(
        tape in generate::tape(),
        flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut input = generate::document(&tape).into_bytes();
        if let Some((at, byte)) = flip {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len())).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]);
        for mode in [RootText::Refuse, RootText::Collect] {
            let whole = read(&mut Framer::new(LIMITS, mode), [&input[..]]);
            prop_assert_eq!(&read(&mut Framer::new(LIMITS, mode), chunks.clone()), &whole);
            prop_assert_eq!(&read(&mut Framer::new(LIMITS, mode), input.chunks(1)), &whole);
        }
    }

    /// Nothing panics and no split matters for bytes that are no document at all.
    #[test]
    fn any_split_of_garbage_gives_the_same(input in prop::collection::vec(prop::sample::select(&b"<>/!?[]&;:='\"ax \xC3\xA9\xEF\xBF\xBE\x00"[..]), 0..60)) {
        for start in ["", "<a>", "<a><b>"] {
            let input = [start.as_bytes(), &input].concat();
            let whole = read(&mut Framer::new(LIMITS, RootText::Collect), [&input[..]]);
            prop_assert_eq!(&read(&mut Framer::new(LIMITS, RootText::Collect), input.chunks(1)), &whole);
        }
    }
}
