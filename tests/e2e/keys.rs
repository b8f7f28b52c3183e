//! Key sequences (XEP-0124 section 15) with managers that check every key.

use xbosh_testkit::cm::{Fault, Profile, Rule, When};

use super::support::Chain;

async fn keyed(profile: Profile) {
    // A manager that has not noticed a dead connection counts more requests than there are.
    let profile = Profile {
        strict_window: false,
        ..profile
    };
    let chain = Chain::start_with(profile, |config| {
        for domain in config.domains.values_mut() {
            domain.bosh.key_sequence = true;
        }
    })
    .await;
    let mut client = chain.login().await;
    chain
        .cm
        .script(Rule::always(When::EveryNth(150), Fault::LoseAnswer));
    // A chain has 1024 keys at most: there is a change in here.
    for _ in 0..1100 {
        client.ping().await.unwrap();
    }
    client.logout().await.unwrap();
    let posts = chain.cm.posts();
    let changes = posts
        .iter()
        .filter(|post| post.attribute("key").is_some() && post.attribute("newkey").is_some());
    assert!(changes.count() >= 1);
    assert!(
        posts
            .iter()
            .all(|post| post.attribute("sid").is_none() != post.attribute("key").is_some())
    );
    let mut wrong = chain.cm.violations();
    wrong.retain(|what| !what.starts_with("B-38") && !what.starts_with("B-39"));
    assert_eq!(wrong, Vec::<String>::new());
}

/// B-65 to B-68, T-13: ejabberd compares case-sensitively and ends the session at the first wrong key.
#[tokio::test]
async fn b66_ejabberd_checks_every_key() {
    keyed(Profile::ejabberd()).await;
}

#[tokio::test]
async fn b66_punjab_checks_every_key() {
    keyed(Profile::punjab()).await;
}

/// B-64: nothing of it by default.
#[tokio::test]
async fn b64_no_keys_by_default() {
    let chain = Chain::start(Profile::ejabberd()).await;
    let client = chain.login().await;
    client.logout().await.unwrap();
    for post in chain.cm.posts() {
        assert_eq!(
            (post.attribute("key"), post.attribute("newkey")),
            (None, None)
        );
    }
}
