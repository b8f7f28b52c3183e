//! Bad weather in front of managers with their own ways (cm-quirks): nothing lost, doubled or reordered, and
//! nothing done against the protocol on the way.

use std::time::Duration;

use xbosh_testkit::cm::{Fault, Profile, Rule, When};

use super::support::{Chain, echo};

fn profiles() -> [(&'static str, Profile); 8] {
    [
        ("strict", Profile::strict()),
        ("prosody", Profile::prosody()),
        ("ejabberd", Profile::ejabberd()),
        ("mongooseim", Profile::mongooseim()),
        ("openfire", Profile::openfire()),
        ("tigase", Profile::tigase()),
        ("punjab", Profile::punjab()),
        ("node-xmpp-bosh", Profile::node_xmpp_bosh()),
    ]
}

/// Every fifth request goes wrong while 60 messages go there and back.
async fn talk(name: &str, profile: Profile, fault: Fault) {
    let told = format!("{name}: {fault:?}");
    // A manager that has not noticed a dead connection still counts its request: how many are open and whether
    // an empty one is early cannot be judged from its side then. The session's own tests do (B-38, B-39).
    let profile = Profile {
        strict_window: false,
        ..profile
    };
    let chain = Chain::start(profile).await;
    let mut client = chain.login().await;
    client.set_deadline(Duration::from_secs(60));
    chain.cm.script(Rule::always(When::EveryNth(5), fault));
    for round in 0..6 {
        echo(&mut client, round * 10..round * 10 + 10).await;
    }
    client.logout().await.unwrap();
    let mut wrong = chain.cm.violations();
    wrong.retain(|what| !what.starts_with("B-38") && !what.starts_with("B-39"));
    assert_eq!(wrong, Vec::<String>::new(), "{told}");
    assert_eq!(chain.server.online(), Vec::<String>::new(), "{told}");
}

async fn every_manager(faults: impl Fn(&str) -> Vec<Fault>) {
    for (name, profile) in profiles() {
        let mut tasks = tokio::task::JoinSet::new();
        for fault in faults(name) {
            tasks.spawn(talk(name, profile.clone(), fault));
        }
        while let Some(result) = tasks.join_next().await {
            result.unwrap();
        }
    }
}

/// B-49 to B-53, cm-quirks 4.3: requests and answers lost in every way, with every manager. Tigase stores no
/// answers, so one that is lost there is lost for good, whatever a client does.
#[tokio::test]
async fn b49_losses_with_every_manager() {
    every_manager(|name| {
        let mut faults = vec![
            Fault::LoseRequest,
            Fault::Reset,
            Fault::page("504 Gateway Timeout"),
            Fault::zero_bytes(),
            Fault::RecoverableError,
            Fault::CloseAtNext,
        ];
        if name != "tigase" {
            faults.extend([
                Fault::LoseAnswer,
                Fault::Vanish,
                Fault::ResetAt(100),
                Fault::Truncate(230),
                Fault::BrokenGzip,
            ]);
        }
        faults
    })
    .await;
}

/// B-02 to B-06, B-35: odd but right replies, late ones, and answers that overtake each other.
#[tokio::test]
async fn b02_odd_replies_with_every_manager() {
    every_manager(|_| {
        vec![
            Fault::Close,
            Fault::CloseSilently,
            Fault::Http10,
            Fault::Interim,
            Fault::LowerCase,
            Fault::Gzip,
            Fault::ContentType("text/html"),
            Fault::Delay(Duration::from_millis(50)),
            Fault::AfterNext,
        ]
    })
    .await;
}
/// B-51, cm-quirks 4.2: two copies of a poll die unseen, the third gets the empty answer stored for the first, and
/// the message was written to the second. Asking once more brings it.
#[tokio::test]
async fn b51_three_copies() {
    for (name, profile) in profiles() {
        if name == "tigase" {
            // It stores no answers: what was on the way is lost, whatever a client does.
            continue;
        }
        let chain = Chain::start(profile).await;
        let mut client = chain.login().await;
        let jid = client.jid().to_owned();
        let message = |text: &str| {
            format!(
                "<message xmlns='jabber:client' from='peer@localhost'><body>{text}</body></message>"
            )
        };
        chain.cm.poll_is_held().await;
        chain.cm.script(Rule::times(When::Empty, 2, Fault::Vanish));
        chain.cm.script(Rule::once(
            When::Empty,
            Fault::Delay(Duration::from_millis(300)),
        ));
        let before = chain.cm.posts().len();
        assert!(chain.server.inject(&jid, &message("before")));
        while chain.cm.posts().len() < before + 3 {
            tokio::task::yield_now().await;
        }
        assert!(chain.server.inject(&jid, &message("in danger")));
        for text in ["before", "in danger"] {
            let stanza = client.wait_for(|s| s.name() == "message").await;
            let got = stanza.map(|s| s.child_text("body").unwrap_or_default());
            assert_eq!(got.as_deref().unwrap_or("nothing"), text, "{name}");
        }
        chain.assert_faithful();
    }
}
