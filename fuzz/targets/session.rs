//! Any order of operations on a [`Session`], against a manager that says anything.
//!
//! Input: a tape of bytes, each one choice.

mod manager;
mod shell;

use shell::Shell;
use std::time::Duration;

/// Choices in order; behind the end every choice is 0.
pub(crate) struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn take(&mut self, most: usize) -> &'a [u8] {
        let count = usize::from(self.byte()).min(most).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Time steps in milliseconds.
const STEPS: [u64; 8] = [0, 1, 10, 25, 500, 2_500, 20_000, 90_000];

pub fn run(data: &[u8]) {
    let mut tape = Tape(data);
    let mut shell = Shell::new(&mut tape);
    shell.drain();
    while !tape.is_empty() {
        step(&mut shell, &mut tape);
        shell.drain();
        shell.check();
    }
    shell.finish();
}

fn step(shell: &mut Shell, tape: &mut Tape<'_>) {
    let choice = tape.byte();
    // Behind the others, so that older inputs keep their meaning.
    match choice {
        240..=242 => return shell.renew(tape),
        243 | 244 => return shell.session.hurry(shell.now),
        245..=248 => {
            let confirming = tape.byte().is_multiple_of(2);
            return shell.session.set_confirming(confirming);
        }
        249 | 250 => return shell.session.client_is_inactive(),
        251..=255 => return shell.open(&manager::polling_creation()),
        _ => {}
    }
    match choice % 24 {
        0..=4 => shell.answer(tape),
        5 | 6 => shell.written(tape),
        7..=9 => shell.send(tape),
        10 => shell.restart(),
        11 => shell.session.expect(),
        12 => shell.session.bound(),
        13 => {
            let receiving = tape.byte().is_multiple_of(2);
            shell.set_receiving(receiving);
        }
        14 => shell.terminate(tape),
        15 => shell.fail(tape),
        16 => shell.repeated(tape),
        17 => shell.late(tape),
        18 => shell.redirected(tape),
        19 => {
            // Harmless at any moment.
            shell.session.handle_timeout(shell.now);
        }
        20 => shell.open(&manager::usual_creation()),
        21..=22 => shell.pass(Duration::from_millis(tape.pick(&STEPS))),
        _ => shell.pass_to_timeout(),
    }
}
