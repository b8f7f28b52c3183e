use std::time::{Duration, Instant};

use tokio::sync::oneshot::Receiver;

use super::lanes::{Ending, Lanes, MAX_DOMAINS, MAX_LANES};
use super::{TooMany, Visitor};

const DOMAIN: &str = "a.example";
const NAMELESS: Visitor = Visitor {
    look: 7,
    named: false,
};

fn named(look: u64) -> Visitor {
    Visitor { look, named: true }
}

/// Lanes at the default rate, and a clock.
struct World {
    lanes: Lanes,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            lanes: Lanes::new(50),
            now: crate::driver::clock::now(),
        }
    }

    fn ask(&mut self, who: Visitor) -> Result<Option<Receiver<Result<(), TooMany>>>, TooMany> {
        self.lanes.ask(DOMAIN, who, self.now)
    }

    /// Has at once what it asks for.
    fn passes(&mut self, who: Visitor) -> bool {
        matches!(self.ask(who), Ok(None))
    }

    fn ended(&mut self, who: Visitor, ending: Ending) {
        self.lanes.ended(DOMAIN, who, ending, self.now);
    }

    /// Lets time pass until this one has its turn, a minute at most.
    fn wait(&mut self, turn: &mut Receiver<Result<(), TooMany>>) -> Duration {
        let began = self.now;
        loop {
            let next = self.lanes.grant(self.now);
            if let Ok(told) = turn.try_recv() {
                assert_eq!(told, Ok(()));
                return self.now - began;
            }
            self.now = next.expect("it waits");
            assert!(self.now < began + Duration::from_secs(60));
        }
    }
}

/// A hundred clients that start together are all let through, within two seconds.
#[test]
fn a_hundred_at_once() {
    let mut world = World::new();
    let asked: Vec<_> = (0..100).map(|_| world.ask(NAMELESS).unwrap()).collect();
    let at_once = asked.iter().filter(|turn| turn.is_none()).count();
    assert_eq!(at_once, 31);
    let began = world.now;
    for mut turn in asked.into_iter().flatten() {
        world.wait(&mut turn);
    }
    let took = world.now - began;
    assert_eq!(took, Duration::from_millis(20 * 69));
    // Other domains never noticed, and after a rest there is a burst again.
    assert!(matches!(
        world.lanes.ask("b.example", NAMELESS, began),
        Ok(None)
    ));
    world.now += Duration::from_secs(2);
    assert_eq!((0..40).filter(|_| world.passes(NAMELESS)).count(), 31);
}

/// E-14: who comes back again and again without ever logging in is refused at once, and let through rarely; after a rest
/// it is as anybody.
#[test]
fn e14_a_named_looper_is_shut_out() {
    let mut world = World::new();
    let looper = named(1);
    let mut passed = 0;
    for n in 0..60_000 {
        match world.ask(looper) {
            Ok(None) => {
                passed += 1;
                world.ended(looper, Ending::Unbound);
            }
            Ok(Some(_)) => panic!("it is to be told at once"),
            Err(TooMany) => {
                // Another client of the same account comes now and then.
                assert!(n % 1000 != 0 || world.passes(looper));
                world.ended(looper, Ending::Refused);
            }
        }
        world.now += Duration::from_millis(1);
    }
    assert!((12..24).contains(&passed), "{passed} in a minute");
    // Nobody else has to do with it.
    assert!(world.passes(named(2)) && world.passes(NAMELESS));
    world.now += Duration::from_secs(60);
    assert_eq!((0..5).filter(|_| world.passes(looper)).count(), 5);
}

/// Without a name it may be anybody who comes back: it is slowed, and waits for its turn. Others that look the same
/// pass as ever, and the one that is mistaken for it waits as it does.
#[test]
fn e14_a_nameless_looper_is_slowed() {
    let mut world = World::new();
    let (began, mut passed) = (world.now, 0);
    while world.now < began + Duration::from_secs(20) {
        if let Some(mut turn) = world.ask(NAMELESS).unwrap() {
            assert!(world.passes(NAMELESS), "a good one");
            assert!(world.wait(&mut turn) <= Duration::from_millis(200));
        }
        passed += 1;
        world.ended(NAMELESS, Ending::Unbound);
    }
    assert!((100..=115).contains(&passed), "{passed}");
    let mut mistaken = world.ask(NAMELESS).unwrap().unwrap();
    let looper = world.ask(NAMELESS).unwrap();
    assert!(looper.is_none());
    assert!(world.wait(&mut mistaken) <= Duration::from_millis(200));
}

/// Who logs in properly and often is slowed, and never refused: a script that sends messages one by one.
#[test]
fn brief_sessions_are_never_refused() {
    let mut world = World::new();
    for _ in 0..200 {
        if let Some(mut turn) = world.ask(named(1)).unwrap() {
            assert!(world.wait(&mut turn) <= Duration::from_millis(200));
        }
        world.ended(named(1), Ending::Brief);
    }
}

/// One visitor that asks for any number of sessions at once: others have their turn next, and find room.
#[test]
fn turns_go_round() {
    let mut world = World::new();
    let mut crowd = Vec::new();
    while let Ok(turn) = world.ask(NAMELESS) {
        crowd.push(turn);
    }
    assert_eq!(crowd.len(), 31 + 150);
    let mut other = world.ask(named(1)).unwrap().unwrap();
    assert!(world.wait(&mut other) <= Duration::from_millis(40));
    let last = crowd.last_mut().unwrap().as_mut().unwrap();
    assert_eq!(last.try_recv(), Ok(Err(TooMany)), "made room");
}

/// Many that loop at once: those that would wait too long for their turn are told at once, and new ones pass.
#[test]
fn e14_many_loopers() {
    let mut world = World::new();
    for _ in 0..40 {
        world.ended(NAMELESS, Ending::Unbound);
    }
    let back: Vec<_> = (0..40).map(|_| world.ask(NAMELESS)).collect();
    let waits = back.iter().filter(|asked| matches!(asked, Ok(Some(_))));
    assert_eq!(waits.count(), 15);
    assert_eq!(back.iter().filter(|asked| asked.is_err()).count(), 24);
    assert!(world.passes(NAMELESS));
    // They have ten seconds to come back.
    for _ in 0..10 {
        world.ended(named(1), Ending::Unbound);
    }
    world.now += Duration::from_secs(11);
    assert!((0..10).all(|_| world.passes(named(1))));
}

/// One that waits and goes takes nobody's turn.
#[test]
fn who_has_gone_costs_nothing() {
    let mut world = World::new();
    while world.passes(NAMELESS) {}
    for _ in 0..100 {
        drop(world.ask(NAMELESS).unwrap());
    }
    let mut turn = world.ask(NAMELESS).unwrap().unwrap();
    assert!(world.wait(&mut turn) <= Duration::from_millis(40));
}

/// Names come from clients: memory is bounded, and who comes on top is paced all the same.
#[test]
fn bounded() {
    let mut world = World::new();
    let mut passed = 0;
    for n in 0..2_000 {
        let domain = format!("{}.example", n % 500);
        for who in [named(n), named(n + 1)] {
            let asked = world.lanes.ask(&domain, who, world.now);
            passed += usize::from(matches!(asked, Ok(None)));
        }
    }
    assert!(passed <= (MAX_DOMAINS + 1) * 31, "{passed}");
    for n in 0..2_000 {
        drop(world.ask(named(n)));
        world.ended(named(n), Ending::Unbound);
    }
    let (domains, lanes) = world.lanes.size();
    assert!(domains <= MAX_DOMAINS + 1, "{domains}");
    assert!(lanes <= domains * (MAX_LANES + 1), "{lanes}");
}
