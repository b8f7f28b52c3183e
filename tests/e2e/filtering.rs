//! What is taken out of a server's features that could only fail, and what follows from it for logins.

use xbosh::config::ChannelBinding;
use xbosh_testkit::client::{Client, ClientError, Mechanism, Stanza};
use xbosh_testkit::cm::Profile;
use xbosh_testkit::xmpp::Server;

use super::support::{Chain, DOMAIN, account, echo};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BINDINGS: &str = "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
    </sasl-channel-binding>";

/// A server that binds logins to its own TLS, on BOSH as well.
fn binding(server: &Server) {
    server.configure(|options| {
        options.mechanisms = vec!["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN"];
        options.before_login = BINDINGS.into();
    });
}

fn mechanisms(features: &Stanza) -> Vec<String> {
    features.read(|element| {
        element
            .descendants()
            .filter(|node| node.has_tag_name((SASL, "mechanism")))
            .filter_map(|node| node.text().map(str::to_owned))
            .collect()
    })
}

/// S-36: mechanisms and types go together, so a client neither tries them (GS2 flag p) nor believes in them; flag n
/// logs in. Flag y says "the server does not know of it", which this server takes for an attack: it refuses, the
/// stream goes on, and the next try without it logs in.
#[tokio::test]
async fn s36_flags_against_a_server_that_binds() {
    let chain = Chain::start(Profile::strict()).await;
    binding(&chain.server);
    let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
    let features = client.open().await.unwrap();
    let offered = mechanisms(&features);
    assert_eq!(offered, ["SCRAM-SHA-1", "PLAIN"]);
    assert!(!features.has("urn:xmpp:sasl-cb:0", "sasl-channel-binding"));

    let refused = client
        .authenticate(&account("user"), Mechanism::ScramY)
        .await;
    assert!(
        matches!(&refused, Err(ClientError::Refused(condition)) if condition == "not-authorized"),
        "{refused:?}"
    );
    // Flag p, whatever the features say.
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1-PLUS'>cD10bHMtZXhwb3J0ZXIsLG49dSxyPTE=</auth>")
        .await
        .unwrap();
    assert_eq!(client.next_stanza().await.unwrap().name(), "failure");

    client
        .authenticate(&account("user"), Mechanism::Scram)
        .await
        .unwrap();
    client.open().await.unwrap();
    client.bind(None).await.unwrap();
    echo(&mut client, 0..3).await;
    client.logout().await.unwrap();
    chain.assert_faithful();
}

/// S-36: without -PLUS at the server, a client that could bind its channel (flag y) logs in.
#[tokio::test]
async fn s36_flag_y_where_nothing_binds() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = Client::login(chain.addr(), &account("user"), Mechanism::ScramY)
        .await
        .unwrap();
    echo(&mut client, 0..3).await;
    client.logout().await.unwrap();
}

/// S-36: the switch leaves everything as it is.
#[tokio::test]
async fn s36_passed_when_told() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.features.channel_binding = ChannelBinding::Pass;
    })
    .await;
    binding(&chain.server);
    let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
    let features = client.open().await.unwrap();
    assert_eq!(
        mechanisms(&features),
        ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN"]
    );
    assert!(features.has("urn:xmpp:sasl-cb:0", "sasl-channel-binding"));
}

/// E-66: nothing is left to log in with; the client hears so, in words.
#[tokio::test]
async fn e66_nothing_left() {
    let chain = Chain::start(Profile::strict()).await;
    chain.server.configure(|options| {
        options.mechanisms = vec!["SCRAM-SHA-1-PLUS"];
    });
    let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
    let Err(ClientError::Stream(error)) = client.open().await else {
        panic!("features without a way in");
    };
    let (condition, text, app) = super::support::told(&error);
    assert_eq!(condition, "policy-violation");
    assert_eq!(app.as_deref(), Some("no-usable-mechanism"));
    assert!(text.contains("SCRAM without PLUS"), "{text}");
}
