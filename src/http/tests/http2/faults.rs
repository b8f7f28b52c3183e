//! Streams and connections that break.

use super::*;
use crate::bosh::failure::FailureKind;

pub(super) use super::super::faults::gzip;

fn ask_telling(written: &Count, repeated: &Count) -> ExchangeRequest {
    ExchangeRequest {
        repeated: repeated.callback(),
        ..ask_counted(written)
    }
}

/// T-31: a refused stream was not processed: at once once more, on another connection, and no second copy.
#[tokio::test]
async fn t31_refused_stream() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    let (written, repeated) = (Count::default(), Count::default());
    let asking = tokio::spawn(client.exchange(ask_telling(&written, &repeated)));
    let mut asked = manager.asked().await;
    asked.read().await;
    asked.reset(Reason::REFUSED_STREAM);
    let asked = manager.asked().await;
    assert_eq!(asked.connection, 1);
    asked.answer("<body/>").await;
    assert!(asking.await.unwrap().is_ok());
    assert_eq!((written.get(), repeated.get()), (1, 0));
}

/// T-31, E-50: refused again, it is a failure of a request that was not sent.
#[tokio::test]
async fn e50_refused_again() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    let asking = tokio::spawn(client.exchange(ask()));
    for _ in 0..2 {
        let asked = manager.asked().await;
        asked.reset(Reason::REFUSED_STREAM);
    }
    let failure = asking.await.unwrap().unwrap_err();
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::CmUnreachable, false)
    );
    let at = manager.address;
    assert_eq!(
        failure.text,
        format!("the BOSH server {at} gave no whole reply (HTTP/2 REFUSED_STREAM)")
    );
}

/// E-51: any other reset is the manager's answer to this request; the connection's other streams go on.
#[tokio::test]
async fn e51_reset_stream() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    let (held, waiting) = manager.held(&two).await;
    for after_head in [false, true] {
        let asking = tokio::spawn(one.exchange(ask()));
        let mut asked = manager.asked().await;
        if after_head {
            let mut sending = asked.begin(Response::new(()), "<bo").await;
            sending.send_reset(Reason::INTERNAL_ERROR);
        } else {
            asked.read().await;
            asked.reset(Reason::INTERNAL_ERROR);
        }
        let failure = asking.await.unwrap().unwrap_err();
        assert_eq!((failure.kind, failure.sent), (FailureKind::NoReply, true));
        let words = "gave no whole reply (HTTP/2 INTERNAL_ERROR)";
        assert!(failure.text.ends_with(words), "{failure:?}");
    }
    assert_eq!(manager.answered(&one, ask()).await, 0);
    waiting.answer("<body/>").await;
    assert!(held.await.unwrap().is_ok());
}

/// RFC 9113 section 6.8: behind a GOAWAY what is under way ends well, and what follows goes elsewhere.
#[tokio::test]
async fn t31_goaway_in_the_middle() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    let (held, waiting) = manager.held(&one).await;
    manager.order(0, Order::Leave);
    // Until the GOAWAY is here requests go to the first connection, which answers them still.
    while manager.answered(&two, ask()).await == 0 {}
    assert_eq!(manager.answered(&one, ask()).await, 1);
    waiting.answer("<body/>").await;
    assert!(held.await.unwrap().is_ok());
    manager.closed(0).await;
    assert_eq!(manager.connections(), 2);
}

/// T-31: a connection that has answered before and dies takes nothing with it: each request on it goes out once
/// more, all of them on one new connection.
#[tokio::test]
async fn t31_the_shared_connection_dies() {
    let mut manager = Manager::new().await;
    let sessions: [SessionClient; 3] = manager.sessions();
    manager.answered(&sessions[0], ask()).await;
    let (written, repeated) = (Count::default(), Count::default());
    let (mut polls, mut waiting) = (Vec::new(), Vec::new());
    for session in &sessions {
        polls.push(tokio::spawn(
            session.exchange(ask_telling(&written, &repeated)),
        ));
        let mut asked = manager.asked().await;
        asked.read().await;
        waiting.push(asked);
    }
    manager.order(0, Order::Die);
    for _ in &polls {
        let asked = manager.asked().await;
        assert_eq!(asked.connection, 1);
        asked.answer("<body/>").await;
    }
    for poll in polls {
        assert!(poll.await.unwrap().is_ok());
    }
    assert_eq!((written.get(), repeated.get()), (3, 3));
    assert_eq!(manager.connections(), 2);
}

/// E-51, T-12: one that never answered is not tried again here.
#[tokio::test]
async fn e51_a_new_connection_dies() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    let (held, _asked) = manager.held(&client).await;
    manager.order(0, Order::Die);
    let failure = held.await.unwrap().unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::NoReply, true));
    assert_eq!(manager.connections(), 1);
}

/// B-51: an exchange that is given up resets its stream, and nothing else.
#[tokio::test]
async fn b51_an_abort_resets_one_stream() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    let (held, waiting) = manager.held(&two).await;
    let (aborted, asked) = manager.held(&one).await;
    aborted.abort();
    assert_eq!(asked.cancelled().await, Reason::CANCEL);
    // In the middle of a reply as well.
    let reading = tokio::spawn(one.exchange(ask()));
    let sending = manager.asked().await.begin(Response::new(()), "<bo").await;
    reading.abort();
    assert_eq!(given_up(sending).await, Reason::CANCEL);
    assert_eq!(manager.answered(&one, ask()).await, 0);
    waiting.answer("<body/>").await;
    assert!(held.await.unwrap().is_ok());
    assert_eq!(manager.connections(), 1);
}

/// T-08: a repeat never uses the connection that its first attempt was lost on. If that was silent since, it
/// carries nothing new for others either, who meet again on the new one; what they have under way may end well.
#[tokio::test]
async fn t08_a_repeat_leaves_a_silent_connection() {
    let mut manager = Manager::new().await;
    let [one, two, three] = manager.sessions();
    manager.answered(&two, ask()).await;
    let (held, waiting) = manager.held(&two).await;
    let (lost, asked) = manager.held(&one).await;
    lost.abort();
    assert_eq!(asked.cancelled().await, Reason::CANCEL);
    // Frames that the server sends on its own account could be here by now: its window updates.
    assert_eq!(manager.answered(&one, ask_fresh()).await, 1);
    assert_eq!(manager.answered(&one, ask()).await, 1);
    assert!(matches!(manager.answered(&three, ask()).await, 0 | 1));
    waiting.answer("<body/>").await;
    assert!(held.await.unwrap().is_ok());
}
