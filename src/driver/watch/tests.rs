//! The decisions, and what the kernel of this machine can be made to say.

#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::time::timerfd_gettime;

use super::sleep::{Reading, Sleeper, follow, has_fired, timer};
use super::*;
use crate::connect::address_is_gone;

/// Past the test runner's capture.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Milliseconds of the three clocks.
fn reading((before, boot, after): (u64, u64, u64)) -> Reading {
    let [before, boot, after] = [before, boot, after].map(Duration::from_millis);
    Reading {
        before,
        boot,
        after,
    }
}

/// T-32: a sleep is what the boot clock gained on the monotonic one, and never what passed between readings.
#[test]
fn t32_what_counts_as_sleep() {
    type Row<'a> = (&'a str, &'a [((u64, u64, u64), Option<u64>)]);
    let rows: &[Row] = &[
        (
            "awake for an hour",
            &[
                ((50, 50, 50), None),
                ((3_600_050, 3_600_050, 3_600_050), None),
            ],
        ),
        (
            "slept before the first reading",
            &[((50, 9_000_050, 50), None), ((60, 9_000_060, 60), None)],
        ),
        (
            "told once, then the next one",
            &[
                ((50, 50, 50), None),
                ((60, 60_060, 60), Some(60_000)),
                ((70, 60_070, 70), None),
                ((80, 62_080, 80), Some(2_000)),
            ],
        ),
        (
            "a second is no sleep",
            &[((50, 50, 50), None), ((50, 1_050, 50), None)],
        ),
        (
            "more is one",
            &[((50, 50, 50), None), ((50, 1_051, 50), Some(1_001))],
        ),
        (
            "naps add up",
            &[
                ((50, 50, 50), None),
                ((60, 660, 60), None),
                ((70, 1_270, 70), Some(1_200)),
            ],
        ),
        (
            "stopped between the clocks",
            &[
                ((50, 50, 50), None),
                ((60, 9_060, 9_060), None),
                ((9_070, 9_070, 18_070), None),
                ((20_000, 29_000, 29_000), None),
            ],
        ),
        (
            "stopped at the first reading, then slept",
            &[
                ((50, 9_050, 9_050), None),
                ((9_060, 9_060, 9_060), None),
                ((9_070, 14_070, 9_070), Some(5_000)),
            ],
        ),
        (
            "slept between the clocks",
            &[((50, 50, 50), None), ((60, 5_060, 60), Some(5_000))],
        ),
        (
            "clocks that go backwards",
            &[
                ((50, 9_050, 50), None),
                ((40, 40, 40), None),
                ((0, 0, 9), None),
            ],
        ),
    ];
    for (name, readings) in rows {
        let mut sleeper = Sleeper::new(reading(readings[0].0));
        for (at, (clocks, slept)) in readings.iter().enumerate() {
            let seen = sleeper.observe(reading(*clocks));
            assert_eq!(
                seen,
                slept.map(Duration::from_millis),
                "{name}, reading {at}"
            );
        }
    }
}

/// T-32: each wake-up of the kernel leads to one look at the clocks, and only a sleep is told.
#[tokio::test]
async fn t32_a_wake_up_is_told() {
    let (mut kernel, signal) = UnixStream::pair().unwrap();
    signal.set_nonblocking(true).unwrap();
    let watch = Watch {
        happened: watch::Sender::default(),
        _tasks: JoinSet::new(),
    };
    let mut changes = watch.changes();
    // The wall clock was set; the machine slept.
    let mut clocks = [(10, 10, 10), (20, 30_020, 20)].into_iter();
    let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
    let read = move || {
        let _ = looked.send(());
        reading(clocks.next().unwrap())
    };
    let following = follow(
        signal.into(),
        Sleeper::new(reading((0, 0, 0))),
        read,
        &watch.happened,
    );
    let playing = async {
        kernel.write_all(&[1; 8]).unwrap();
        looks.recv().await.unwrap();
        assert_eq!(*watch.happened.borrow(), Happened::default());
        kernel.write_all(&[1; 8]).unwrap();
        changes.next().await
    };
    tokio::select! {
        ended = following => unreachable!("{ended:?}"),
        change = playing => assert_eq!(change, Change::Slept(Duration::from_secs(30))),
    }
}

/// T-32: the timer is armed and does not fire by itself.
#[test]
fn t32_the_timer_waits() {
    let timer = timer().unwrap();
    let left = timerfd_gettime(&timer).unwrap();
    // A century, at the least: the kernel's clocks end in 2262.
    assert!(left.it_value.tv_sec > 100 * 365 * 86_400, "{left:?}");
    assert_eq!(left.it_interval.tv_sec, 0);
    let error = has_fired(&timer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

/// T-32: whoever looks late is told of each kind once; whoever comes later is not told at all.
#[tokio::test]
async fn t32_late_lookers_lose_nothing() {
    let watch = Watch {
        happened: watch::Sender::default(),
        _tasks: JoinSet::new(),
    };
    let mut early = watch.changes();
    for seconds in [2, 3] {
        watch.happened.send_modify(|happened| {
            happened.network += 1;
            happened.slept += Duration::from_secs(seconds);
        });
    }
    let mut late = watch.changes();
    assert_eq!(early.next().await, Change::Slept(Duration::from_secs(5)));
    assert_eq!(early.next().await, Change::Network);
    watch.happened.send_modify(|happened| happened.network += 1);
    assert_eq!(late.next().await, Change::Network);
    assert_eq!(early.next().await, Change::Network);
    drop(watch);
    tokio::select! {
        biased;
        change = early.next() => unreachable!("{change:?}"),
        () = tokio::task::yield_now() => {}
    }
}

/// Says that this process is the one with a network of its own.
const INSIDE: &str = "XBOSH_TEST_OWN_NETWORK";

/// T-32: real changes in a network of its own, which needs root or user namespaces.
#[test]
fn t32_the_kernel_tells_of_changes() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(in_own_network());
    }
    let may = |flag: &&str| {
        let tried = Command::new("unshare")
            .args([flag, "ip", "link", "set", "lo", "up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(flag) = ["-n", "-rn"].iter().find(|flag| may(flag)) else {
        return say(
            "left out: changes of the network (no `ip`, or no right to a network of its own)",
        );
    };
    let name = "driver::watch::tests::t32_the_kernel_tells_of_changes";
    let output = Command::new("unshare")
        .arg(flag)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}{errors}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

async fn in_own_network() {
    let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let watch = Watch::start();
    let mut changes = watch.changes();
    // The socket is opened by then: its task was spawned first.
    tokio::task::yield_now().await;
    let limit = Duration::from_secs(20);
    let mut gone = true;
    for change in [
        "link set lo up",
        "address add 192.0.2.1/32 dev lo",
        "route add 198.51.100.0/24 via 192.0.2.1 dev lo",
        "address del 192.0.2.1/32 dev lo",
    ] {
        ip(change);
        let told = tokio::time::timeout(limit, changes.next()).await;
        assert_eq!(told, Ok(Change::Network), "{change}");
        gone ^= change.starts_with("address");
        assert_eq!(address_is_gone(address), gone, "{change}");
    }
    // More messages than the socket can keep are a change as well.
    let many: String = (0..4000)
        .map(|n| format!("route add 198.18.{}.{}/32 dev lo\n", n / 250, n % 250 + 1))
        .collect();
    let mut batch = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    batch
        .stdin
        .take()
        .unwrap()
        .write_all(many.as_bytes())
        .unwrap();
    assert!(batch.wait().unwrap().success());
    let told = tokio::time::timeout(limit, changes.next()).await;
    assert_eq!(told, Ok(Change::Network), "a flood");
    let again = tokio::time::timeout(Duration::from_secs(1), changes.next()).await;
    assert!(again.is_err(), "told as one");
    // And it still listens.
    ip("link set lo down");
    let told = tokio::time::timeout(limit, changes.next()).await;
    assert_eq!(told, Ok(Change::Network), "after the flood");
}
