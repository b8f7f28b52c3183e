//! No network at all: the program runs in a network namespace without so much as a loopback interface. A client
//! reaches it by a Unix socket.

use std::process::Command;

use insta::assert_snapshot;

use crate::support::{Case, left_out};

#[tokio::test(flavor = "multi_thread")]
async fn none() {
    let ways: [&[&str]; 2] = [
        &["unshare", "--net", "--"],
        &["unshare", "--map-root-user", "--net", "--"],
    ];
    let works = |way: &&[&str]| {
        let done = Command::new(way[0]).args(&way[1..]).arg("true").output();
        done.is_ok_and(|done| done.status.success())
    };
    let Some(prefix) = ways.into_iter().find(works) else {
        return left_out("no network (unshare --net is not allowed here)");
    };
    let mut all = String::new();
    for (name, config) in [
        (
            "no network",
            "[proxy]\nurl = \"none\"\n[domains.\"example.org\"]\nurl = \"https://192.0.2.1/http-bind\"\n",
        ),
        (
            "a name that nobody resolves",
            "[proxy]\nurl = \"none\"\n[domains.\"example.org\"]\nurl = \"https://chat.example/http-bind\"\n",
        ),
        (
            "a proxy's name that nobody resolves",
            "[proxy]\nurl = \"http://proxy.example:3128\"\n",
        ),
        ("no network, no address known", "[proxy]\nurl = \"none\"\n"),
    ] {
        let case = Case::new(config);
        let socket = format!("unix:{}", case.path().join("socket").display());
        all.push_str(&case.by(prefix).listening(&socket).told(name).await);
    }
    assert_snapshot!(all);
}
