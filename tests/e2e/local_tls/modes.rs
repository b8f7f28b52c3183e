//! What is offered and refused, and when (S-37, S-45).

use super::*;

const REFUSED: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";

/// S-37: off: the exact bytes, and silence for TLS from the first byte.
#[tokio::test]
async fn s37_off() {
    let chain = chain_in(LocalTlsMode::Off).await;
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    let head = raw.read_until("</stream:features>").await.unwrap();
    assert!(!head.contains("starttls"), "{head}");
    raw.send(STARTTLS).await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), REFUSED);
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(b"\x16\x03\x01\x00\xf4\x01").await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), "");
}

/// S-37: optional offers it, auto does not until the authority is trusted; required answers the plain header itself.
#[tokio::test]
async fn s37_modes() {
    for (mode, offered) in [
        (LocalTlsMode::Auto, false),
        (LocalTlsMode::Optional, true),
        (LocalTlsMode::Required, true),
    ] {
        let chain = chain_in(mode).await;
        let mut raw = Raw::connect(chain.addr()).await.unwrap();
        raw.send(HEADER).await.unwrap();
        let head = raw.read_until("</stream:features>").await.unwrap();
        assert_eq!(head.contains("<starttls "), offered, "{mode:?}: {head}");
        let required = mode == LocalTlsMode::Required;
        assert_eq!(creations(&chain), usize::from(!required));
        assert_eq!(head.contains("<mechanism>"), !required);
        if required {
            raw.send(AUTH).await.unwrap();
            let told = raw.read_to_end().await.unwrap();
            assert!(told.contains("<policy-violation"), "{told}");
            assert_eq!(chain.cm.posts().len(), 0);
        }
        let mut client = login(&chain, starttls(&chain)).await;
        echo(&mut client, 0..10).await;
        client.logout().await.unwrap();
        chain.assert_faithful();
    }
}

/// S-37, CVE-2011-0411: words in the clear behind `<starttls/>` go nowhere, in one segment or two.
#[tokio::test]
async fn s37_injection() {
    let chain = chain().await;
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    raw.send(format!("{STARTTLS}{AUTH}")).await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), REFUSED);

    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    raw.send(STARTTLS).await.unwrap();
    raw.read_until(PROCEED).await.unwrap();
    raw.send(format!("{HEADER}{AUTH}")).await.unwrap();
    let rest = raw.read_to_end().await.unwrap();
    assert!(!rest.contains("stream"), "{rest:?}");
    for post in chain.cm.posts() {
        assert!(!post.body.contains("<auth"), "{}", post.body);
    }
}

/// S-45: PLAIN shows inside TLS only.
#[tokio::test]
async fn s45_plain_is_hidden() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.features.plain_without_tls = PlainWithoutTls::Hide;
    })
    .await;
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    let head = raw.read_until("</stream:features>").await.unwrap();
    assert!(head.contains("SCRAM-SHA-1") && !head.contains("PLAIN"));
    let mut client = login(&chain, direct(&chain)).await;
    echo(&mut client, 0..3).await;
}

/// S-37: the name in TLS and the domain of the stream must be one, by STARTTLS and directly.
#[tokio::test]
async fn s37_another_name_in_tls() {
    let chain = Chain::start_with(Profile::strict(), two_domains).await;
    let pem = ca(&chain, "example.org");
    let other = ClientTls::direct(&pem, "example.org");
    let mut stream = other.connect(chain.addr()).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "</stream:stream>").await;
    assert!(told.contains("<host-unknown"), "{told}");
    assert_eq!(creations(&chain), 0);

    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    // Without a name, the certificate is that of the header's domain; with one, of that domain.
    let mut wrong = ClientTls::direct(&pem, "example.org");
    wrong = wrong.after_starttls(DOMAIN);
    let mut stream = wrong.connect(chain.addr()).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "</stream:stream>").await;
    assert!(told.contains("<host-unknown"), "{told}");
}
