//! What xbosh costs, beside direct TCP and beside the least that BOSH costs (the floor), interleaved in one run. Prints
//! tables, and writes `docs/performance.md` with its plots.
//!
//! `cargo run --release --example performance` takes a quarter of an hour, and wants a machine that does nothing else;
//! `-- --short` takes seconds, measures nothing of worth, and fails on a lost, reordered or changed message.

#![allow(
    clippy::print_stderr,
    reason = "progress is for the person who waits for it"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use xbosh_testkit::performance::document::Document;
use xbosh_testkit::performance::goals::{BYTES, Program, SESSIONS};
use xbosh_testkit::performance::idle::{self, Rest};
use xbosh_testkit::performance::machine::Machine;
use xbosh_testkit::performance::{
    Amounts, Metric, Pace, Path, Programs, Proxies, Results, Stage, Subject, Target, binary,
    loader, long, report,
};
use xbosh_testkit::real::available::Program as Foreign;

const FULL: Amounts = Amounts {
    logins: 5,
    pings: 500,
    messages: 5000,
    echoes: 3000,
};
const SHORT: Amounts = Amounts {
    logins: 2,
    pings: 50,
    messages: 500,
    echoes: 200,
};

/// Loads under which delays are taken.
const PACES: [Pace; 3] = [
    Pace {
        name: "one message every 20 ms",
        burst: 1,
        every: Duration::from_millis(20),
        bursts: 150,
    },
    Pace {
        name: "one message every 2 ms",
        burst: 1,
        every: Duration::from_millis(2),
        bursts: 1000,
    },
    Pace {
        name: "50 messages at once every 50 ms",
        burst: 50,
        every: Duration::from_millis(50),
        bursts: 40,
    },
];
const SHORT_PACES: [Pace; 1] = [Pace {
    name: "10 messages at once every 10 ms",
    burst: 10,
    every: Duration::from_millis(10),
    bursts: 10,
}];
/// Times that the program is started.
const STARTS: usize = 15;
/// Sessions of one account.
const RESOURCES: usize = 10;

#[derive(Parser)]
#[command(about = "Measures xbosh against the least that BOSH costs")]
struct Arguments {
    /// One small round with the embedded server; writes nothing.
    #[arg(long)]
    short: bool,
    /// Interleaved rounds; with 0, and --no-extremes, idle sessions are all that is measured.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Rounds with idle sessions, a minute and a half each.
    #[arg(long, default_value_t = 3)]
    idle_rounds: usize,
    /// Idle sessions in each, at least 100.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Lets every idle session poll once before its processor time is taken, which takes a minute more a round.
    #[arg(long)]
    settle: bool,
    /// Which servers: prosody, embedded. The first is judged and plotted.
    #[arg(long, value_delimiter = ',', default_value = "prosody,embedded")]
    servers: Vec<String>,
    /// Rounds, of those under load, that take delays.
    #[arg(long, default_value_t = 3)]
    delay_rounds: usize,
    /// Leaves out 5,000 sessions at once and 100 MB through one stream.
    #[arg(long)]
    no_extremes: bool,
    /// Where performance.md and its plots go.
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// The program to measure. Built like this example if left out.
    #[arg(long)]
    xbosh: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The load program is this one once more, in a process of its own.
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "load" => loader::run(rest),
        _ => run(&Arguments::parse(), &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, words: &[String]) -> Result<(), String> {
    let xbosh = match &arguments.xbosh {
        Some(path) => path.clone(),
        None => build()?,
    };
    let bench = Bench {
        programs: Programs {
            load: std::env::current_exe().map_err(|error| error.to_string())?,
            xbosh,
        },
        // xbosh dies with the thread that started it: one thread does everything.
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?,
    };
    if arguments.short {
        return bench.short();
    }
    let mut machine = Machine::of(&["prosody", "squid", "dante-server"]);
    machine.add_program(&bench.programs.xbosh);
    let xbosh = &bench.programs.xbosh;
    let mut program = Program {
        starts_ms: (0..STARTS)
            .map(|_| binary::start_ms(xbosh))
            .collect::<Result<_, _>>()?,
        stripped_mib: binary::stripped_mib(xbosh),
        ..Program::default()
    };
    if !arguments.no_extremes {
        bench.extremes(&mut program)?;
    }
    let mut servers = Vec::new();
    for name in &arguments.servers {
        let name = match name.as_str() {
            "prosody" => match Foreign::Prosody.available() {
                Ok(()) => "Prosody",
                Err(why) => {
                    eprintln!("left out: {why}");
                    continue;
                }
            },
            "embedded" => "Embedded server",
            _ => return Err(format!("no server is called {name}")),
        };
        servers.push((name, bench.measure(name == "Prosody", arguments)?));
    }
    let command = format!(
        "cargo run --release --example performance -- {}",
        words.join(" ")
    );
    let document = Document {
        command: command.trim_end_matches(" -- "),
        machine: &machine,
        program: &program,
        servers: &servers,
    };
    for goal in document.goals() {
        let met = match goal.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        };
        let (figure, limit, measured) = (&goal.figure, &goal.limit, &goal.measured);
        say(&format!("{met:<12} {figure}: {measured} (goal {limit})"))?;
    }
    document.write(&arguments.docs)
}

struct Bench {
    programs: Programs,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn measure(&self, real: bool, arguments: &Arguments) -> Result<Results, String> {
        let mut results = Results::default();
        // Without a proxy its ways are left out.
        let proxies = Proxies::start()?;
        let stage = |accounts| match real {
            true => Stage::prosody(&proxies, accounts),
            false => Stage::embedded(accounts),
        };
        for round in 0..arguments.rounds {
            let stage = stage(2)?;
            eprintln!(
                "{}: round {} of {}",
                stage.name,
                round + 1,
                arguments.rounds
            );
            let paces = if round < arguments.delay_rounds {
                &PACES[..]
            } else {
                &[]
            };
            self.runtime
                .block_on(self.load(&stage, FULL, paces, round, &mut results))?;
        }
        // Not lost if what follows fails.
        say(if real { "Prosody" } else { "embedded server" })?;
        print(&results, &Metric::LOAD)?;
        let idle_rounds = if real { arguments.idle_rounds } else { 0 };
        for round in 0..idle_rounds {
            let stage = stage(arguments.sessions.div_ceil(RESOURCES) + 1)?;
            eprintln!("{}: idle round {} of {idle_rounds}", stage.name, round + 1);
            let rest = Rest {
                sessions: arguments.sessions.max(100),
                watch: Duration::from_secs(5),
                settle: arguments.settle,
            };
            self.runtime.block_on(async {
                let mut subjects = self.idle_subjects(&stage)?;
                idle::round(&mut subjects, &stage, rest, &mut results).await
            })?;
        }
        print(&results, &Metric::IDLE)?;
        Ok(results)
    }

    /// Every way and target once, the other way round every other time: who comes first meets a server that has
    /// done less.
    async fn load(
        &self,
        stage: &Stage,
        amounts: Amounts,
        paces: &[Pace],
        round: usize,
        results: &mut Results,
    ) -> Result<(), String> {
        let mut work = vec![(Path::Tcp, Target::Direct)];
        for path in stage.paths() {
            work.extend([(path, Target::Floor), (path, Target::Xbosh)]);
        }
        if round % 2 == 1 {
            work.reverse();
        }
        for (path, target) in work {
            let mut subject = Subject::start(&self.programs, stage, path, target)?;
            subject.round(stage, amounts, results).await?;
            let timed = matches!(path, Path::Tcp | Path::Http | Path::Https);
            if timed && !paces.is_empty() {
                subject.delays(stage, paces, results).await?;
            }
        }
        Ok(())
    }

    /// What is about xbosh alone, whatever the server.
    fn extremes(&self, program: &mut Program) -> Result<(), String> {
        eprintln!("100 MB through one stream");
        let stage = Stage::embedded(2)?;
        self.runtime.block_on(async {
            let mut subject = Subject::start(&self.programs, &stage, Path::Https, Target::Xbosh)?;
            program.long = Some(long::stream(&mut subject, &stage, BYTES).await?);
            Ok::<(), String>(())
        })?;
        // The embedded server would need as many open files in this process.
        if Foreign::Prosody.available().is_ok() {
            eprintln!("{SESSIONS} sessions");
            let stage = Stage::prosody(&Proxies::start()?, SESSIONS / RESOURCES)?;
            self.runtime.block_on(async {
                let mut subject =
                    Subject::start(&self.programs, &stage, Path::Http, Target::Xbosh)?;
                program.many = Some(idle::many(&mut subject, &stage, SESSIONS).await?);
                Ok::<(), String>(())
            })?;
        }
        Ok(())
    }

    fn idle_subjects(&self, stage: &Stage) -> Result<Vec<Subject>, String> {
        let mut subjects = Vec::new();
        for path in [Path::Http, Path::Https] {
            for target in [Target::Floor, Target::Xbosh] {
                subjects.push(Subject::start(&self.programs, stage, path, target)?);
            }
        }
        Ok(subjects)
    }

    fn short(&self) -> Result<(), String> {
        let mut results = Results::default();
        let stage = Stage::embedded(2)?;
        self.runtime.block_on(async {
            self.load(&stage, SHORT, &SHORT_PACES, 0, &mut results)
                .await?;
            let mut subjects = self.idle_subjects(&stage)?;
            idle::grow(&mut subjects, &stage, 1).await?;
            idle::quiet(&subjects, Duration::from_secs(2), &mut results).await
        })?;
        print(&results, &Metric::LOAD)?;
        print(&results, &Metric::IDLE)
    }
}

/// Medians and ratios, if there are any.
fn print(results: &Results, metrics: &[Metric]) -> Result<(), String> {
    let medians = report::medians(results, metrics);
    if medians.len() > 1 {
        say(&report::plain(&medians))?;
        say("xbosh to the floor, paired by round: median (quartiles)")?;
        say(&report::plain(&report::ratios(results, metrics)))?;
    }
    Ok(())
}

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())
}

/// Builds xbosh like this example was built, without what the tests add to it.
fn build() -> Result<PathBuf, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--bin", "xbosh"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    // target/<profile>/examples/performance
    let example = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = example
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("xbosh"));
    match path {
        Some(path) if status.success() && path.is_file() => Ok(path),
        _ => Err("xbosh is not built; name it by --xbosh".to_owned()),
    }
}
