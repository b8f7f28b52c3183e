//! The proxy that hits requests by chance: what each fault does to the client and to the origin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use xbosh_testkit::Service;
use xbosh_testkit::proxy::{FaultKind, FaultPlan, FaultyProxy};

const REQUEST: &str = "<body rid='1' sid='s1'>request</body>";
const ANSWER: &str = "<body>an answer</body>";

/// Answers each connection's first request, when let.
struct Origin {
    service: Service,
    /// Bytes of requests that came.
    received: Arc<AtomicUsize>,
    /// Whole requests that came.
    whole: Arc<AtomicUsize>,
    /// Connections that ended before their answer.
    left: Arc<AtomicUsize>,
    may_answer: Arc<Semaphore>,
}

impl Origin {
    async fn start(answers: usize) -> Self {
        let [received, whole, left]: [Arc<AtomicUsize>; 3] = Default::default();
        let may_answer = Arc::new(Semaphore::new(answers));
        let (counts, permits) = (
            [Arc::clone(&received), Arc::clone(&whole), Arc::clone(&left)],
            Arc::clone(&may_answer),
        );
        let service = Service::start(move |stream| {
            let (counts, permits) = (counts.clone(), Arc::clone(&permits));
            async move { answer(stream, &counts, &permits).await }
        })
        .await;
        Self {
            service,
            received,
            whole,
            left,
            may_answer,
        }
    }

    fn whole(&self) -> usize {
        self.whole.load(Ordering::SeqCst)
    }
}

async fn answer(
    mut stream: TcpStream,
    [received, whole, left]: &[Arc<AtomicUsize>; 3],
    permits: &Semaphore,
) {
    let mut got = Vec::new();
    while !got.ends_with(REQUEST.as_bytes()) {
        let Ok(count @ 1..) = stream.read_buf(&mut got).await else {
            left.fetch_add(1, Ordering::SeqCst);
            return;
        };
        received.fetch_add(count, Ordering::SeqCst);
    }
    whole.fetch_add(1, Ordering::SeqCst);
    let mut byte = [0];
    tokio::select! {
        permit = permits.acquire() => permit.unwrap().forget(),
        _ = stream.read(&mut byte) => {
            left.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    // The proxy may have gone.
    let _ = stream.write_all(reply.as_bytes()).await;
}

struct Bench {
    origin: Origin,
    proxy: FaultyProxy,
    client: TcpStream,
}

impl Bench {
    /// Every request is hit, or as many as `most` says.
    async fn start(kind: FaultKind, answers: usize, most: Option<u64>) -> Self {
        let proxy = FaultyProxy::start(FaultPlan {
            kind,
            rate: 1.0,
            seed: 7,
            most,
        })
        .await;
        let client = TcpStream::connect(proxy.addr()).await.unwrap();
        let origin = Origin::start(answers).await;
        proxy.arm();
        Self {
            origin,
            proxy,
            client,
        }
    }

    async fn reconnect(&mut self) {
        self.client = TcpStream::connect(self.proxy.addr()).await.unwrap();
    }

    async fn send(&mut self) -> std::io::Result<()> {
        let request = format!(
            "POST http://{}/cm HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{REQUEST}",
            self.origin.service.addr(),
            REQUEST.len()
        );
        self.client.write_all(request.as_bytes()).await
    }

    /// Sends one request, if the connection takes it, and reads the answer.
    async fn exchange(&mut self) -> Got {
        let sent = self.send().await;
        let got = self.read().await;
        Got {
            reset: got.reset || sent.is_err(),
            ..got
        }
    }

    /// Reads up to the end of a page or an answer, or to the end of the connection.
    async fn read(&mut self) -> Got {
        let mut got = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&got).into_owned();
            if text.ends_with("</body></html>") || text.ends_with(ANSWER) {
                return Got::new(text, false, false);
            }
            match self.client.read_buf(&mut got).await {
                Ok(0) => return Got::new(text, true, false),
                Ok(_) => {}
                Err(_) => return Got::new(text, true, true),
            }
        }
    }

    fn faults(&self) -> u64 {
        self.proxy.counts().faults
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: String,
    body: String,
    closed: bool,
    reset: bool,
}

impl Got {
    fn new(text: String, closed: bool, reset: bool) -> Self {
        let status = text.split("\r\n").next().unwrap_or_default().to_owned();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Self {
            status,
            body: body.to_owned(),
            closed,
            reset,
        }
    }

    fn is_answer(&self) -> bool {
        self.status == "HTTP/1.1 200 OK" && self.body == ANSWER && !self.closed
    }

    fn is_bare_reset(&self) -> bool {
        self.status.is_empty() && self.reset
    }
}

#[tokio::test]
async fn nothing_is_hit_before_it_is_armed_or_when_chance_spares_it() {
    let mut bench = Bench::start(FaultKind::ResetBefore, 9, None).await;
    bench.proxy.disarm();
    for _ in 0..3 {
        let got = bench.exchange().await;
        assert!(got.is_answer(), "{got:?}");
    }
    assert_eq!(bench.proxy.counts().requests, 0);
    bench.proxy.arm();
    assert!(bench.exchange().await.is_bare_reset());
    let counts = bench.proxy.counts();
    assert_eq!((counts.requests, counts.faults), (1, 1));
    let log = bench.proxy.log();
    assert!(log.contains("rid 1 FAULT reset before"), "{log}");
}

#[tokio::test]
async fn chance_follows_the_rate_the_seed_and_the_limit() {
    let mut patterns = Vec::new();
    for (seed, most) in [(1, None), (1, None), (2, None), (1, Some(3))] {
        let mut bench = Bench::start(FaultKind::ResetBefore, 0, None).await;
        bench.proxy = FaultyProxy::start(FaultPlan {
            kind: FaultKind::Status(503),
            rate: 0.3,
            seed,
            most,
        })
        .await;
        bench.proxy.arm();
        bench.origin.may_answer.add_permits(200);
        bench.reconnect().await;
        let mut pattern = Vec::new();
        for _ in 0..200 {
            pattern.push(!bench.exchange().await.is_answer());
        }
        let hits = pattern.iter().filter(|hit| **hit).count();
        assert_eq!(bench.faults(), hits as u64);
        assert_eq!(bench.origin.whole(), 200 - hits);
        match most {
            Some(most) => assert_eq!(hits as u64, most),
            // Thirty percent of 200, with 4.6 standard deviations on either side.
            None => assert!((30..=90).contains(&hits), "{hits}"),
        }
        patterns.push(pattern);
    }
    assert_eq!(patterns[0], patterns[1]);
    assert_ne!(patterns[0], patterns[2]);
}

#[tokio::test]
async fn resets_before_during_and_after() {
    let mut bench = Bench::start(FaultKind::ResetBefore, 9, None).await;
    assert!(bench.exchange().await.is_bare_reset());
    assert_eq!(bench.origin.received.load(Ordering::SeqCst), 0);

    let mut bench = Bench::start(FaultKind::ResetDuring, 9, None).await;
    assert!(bench.exchange().await.is_bare_reset());
    let left = Arc::clone(&bench.origin.left);
    crate::bosh::until(|| left.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bench.origin.whole(), 0);

    let mut bench = Bench::start(FaultKind::ResetAfter, 9, None).await;
    assert!(bench.exchange().await.is_bare_reset());
    assert_eq!(bench.origin.whole(), 1, "it was processed");

    let mut bench = Bench::start(FaultKind::CutAnswer, 9, None).await;
    let got = bench.exchange().await;
    assert!(got.reset && got.status == "HTTP/1.1 200 OK", "{got:?}");
    assert_ne!(got.body, ANSWER);
}

#[tokio::test]
async fn pages_take_the_place_of_answers_and_keep_the_connection() {
    for status in [407, 502, 503, 504] {
        let mut bench = Bench::start(FaultKind::Status(status), 9, Some(1)).await;
        let got = bench.exchange().await;
        assert!(
            got.status.starts_with(&format!("HTTP/1.1 {status} ")),
            "{got:?}"
        );
        assert_eq!(bench.origin.whole(), 0);
        assert!(bench.exchange().await.is_answer());
    }
    let mut bench = Bench::start(FaultKind::StatusAfter(504), 9, Some(1)).await;
    let got = bench.exchange().await;
    assert!(got.status.starts_with("HTTP/1.1 504 "), "{got:?}");
    assert_eq!(bench.origin.whole(), 1, "it was processed");
    assert!(bench.exchange().await.is_answer());
}

#[tokio::test]
async fn long_polls_are_cut_and_their_origin_is_left() {
    let kind = FaultKind::CutLongPoll(Duration::from_millis(50));
    let mut bench = Bench::start(kind, 1, None).await;
    let quick = bench.exchange().await;
    assert!(quick.is_answer(), "{quick:?}");
    let begun = Instant::now();
    let cut = bench.exchange().await;
    assert!(cut.status.starts_with("HTTP/1.1 504 "), "{cut:?}");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let left = Arc::clone(&bench.origin.left);
    crate::bosh::until(|| left.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bench.faults(), 1);
}

#[tokio::test]
async fn kept_connections_close_unannounced_in_both_ways() {
    let mut bench = Bench::start(FaultKind::CloseIdle, 100, None).await;
    for _ in 0..20 {
        let got = bench.exchange().await;
        assert!(got.is_answer(), "{got:?}");
        let next = bench.exchange().await;
        assert!(next.status.is_empty() && next.closed, "{next:?}");
        bench.reconnect().await;
    }
    let log = bench.proxy.log();
    assert!(log.contains("FAULT closed behind the answer"), "{log}");
    assert!(
        log.contains("FAULT closed as the next request came"),
        "{log}"
    );
    assert_eq!(bench.origin.whole(), 20, "no second request is forwarded");
}

#[tokio::test]
async fn old_http_late_answers_and_doubled_requests() {
    let mut bench = Bench::start(FaultKind::Http10, 9, None).await;
    bench.send().await.unwrap();
    let mut whole = String::new();
    bench.client.read_to_string(&mut whole).await.unwrap();
    assert!(
        whole.starts_with("HTTP/1.0 200 OK\r\n") && whole.ends_with(ANSWER),
        "{whole}"
    );
    assert!(!whole.contains("Content-Length"), "{whole}");

    let mut bench = Bench::start(FaultKind::Buffer, 9, None).await;
    let got = bench.exchange().await;
    assert!(got.is_answer(), "{got:?}");
    assert!(bench.proxy.log().contains("FAULT delay of"));

    let mut bench = Bench::start(FaultKind::ResendPost, 1, None).await;
    let got = bench.exchange().await;
    assert!(got.is_answer(), "{got:?}");
    let origin = &bench.origin;
    crate::bosh::until(|| origin.whole() + origin.left.load(Ordering::SeqCst) >= 2).await;
}

#[tokio::test]
async fn swallowed_requests_stay_open_until_the_client_leaves() {
    let mut bench = Bench::start(FaultKind::Blackhole, 9, Some(1)).await;
    bench.send().await.unwrap();
    let proxy = &bench.proxy;
    crate::bosh::until(|| proxy.counts().faults == 1).await;
    let silence = tokio::time::timeout(Duration::from_millis(50), bench.read()).await;
    assert!(silence.is_err(), "{silence:?}");
    assert_eq!(bench.origin.received.load(Ordering::SeqCst), 0);
    bench.reconnect().await;
    assert!(bench.exchange().await.is_answer());
}

/// What a client gives up is given up at the origin too.
#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let mut bench = Bench::start(FaultKind::Buffer, 0, Some(0)).await;
    bench.send().await.unwrap();
    let whole = Arc::clone(&bench.origin.whole);
    crate::bosh::until(|| whole.load(Ordering::SeqCst) == 1).await;
    bench.reconnect().await;
    let left = Arc::clone(&bench.origin.left);
    crate::bosh::until(|| left.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn outages_cut_what_is_there_and_refuse_what_comes() {
    let mut bench = Bench::start(FaultKind::Buffer, 0, Some(0)).await;
    bench.proxy.mark("request");
    bench.proxy.mark("another");
    bench.send().await.unwrap();
    let whole = Arc::clone(&bench.origin.whole);
    crate::bosh::until(|| whole.load(Ordering::SeqCst) == 1).await;
    let lasts = Duration::from_millis(200);
    let begun = Instant::now();
    bench.proxy.outage(lasts);
    assert!(bench.read().await.reset);
    let left = Arc::clone(&bench.origin.left);
    crate::bosh::until(|| left.load(Ordering::SeqCst) == 1).await;
    bench.origin.may_answer.add_permits(1);
    loop {
        bench.reconnect().await;
        let got = bench.exchange().await;
        if got.is_answer() {
            break;
        }
        assert!(got.is_bare_reset() || got.closed, "{got:?}");
    }
    assert!(begun.elapsed() >= lasts);
    assert_eq!(bench.faults(), 1);
    assert_eq!(bench.proxy.cut_requests("request"), 1);

    bench.send().await.unwrap();
    crate::bosh::until(|| whole.load(Ordering::SeqCst) == 3).await;
    bench.proxy.cut();
    assert!(bench.read().await.reset);
    assert_eq!(bench.proxy.cut_requests("request"), 2);
    assert_eq!(bench.proxy.cut_requests("another"), 0);
    // It was in an answer.
    bench.proxy.mark("an answer");
    // With nothing under way. The answer is not for the request that was cut.
    crate::bosh::until(|| left.load(Ordering::SeqCst) == 2).await;
    bench.origin.may_answer.add_permits(1);
    bench.reconnect().await;
    assert!(bench.exchange().await.is_answer());
    bench.proxy.cut();
    assert!(bench.read().await.reset);
    assert_eq!(bench.proxy.cut_requests("request"), 2);
    assert_eq!(bench.proxy.cut_requests("an answer"), 2);
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    for kind in FaultKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "reset".parse::<FaultKind>().unwrap_err();
    assert!(error.contains("reset-before, reset-during"), "{error}");
}
