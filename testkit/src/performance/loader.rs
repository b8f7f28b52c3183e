//! The program that makes the load: a process of its own, so that what it uses can be told apart. In BOSH's
//! name it is the floor. It takes one command a line from standard input and answers with one line.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::floor::Route;
use super::link::{Link, Way};
use super::load::{self, Pace};
use crate::client::Account;

/// Runs until the end of standard input. `arguments` is what [`super::Loader`] makes.
///
/// # Errors
/// Arguments that nobody makes, or no way to write.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let way = way(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (lines, commands) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    runtime.block_on(serve(way, commands))
}

fn way(arguments: &[String]) -> Result<Way, String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["stream", address] => {
            let address: SocketAddr = address.parse().map_err(|_| "no address")?;
            Ok(Way::Stream(address.into()))
        }
        ["bosh", url, wait, ca, proxy] => {
            let tls = match ca {
                "-" => None,
                path => Some(tls(path)?),
            };
            Ok(Way::Bosh {
                route: Route::new(url, Some(proxy).filter(|p| *p != "-"), tls)?,
                wait: wait.parse().map_err(|_| "wait is no number")?,
            })
        }
        _ => Err("load (stream ADDRESS | bosh URL WAIT CA-FILE|- PROXY|-)".to_owned()),
    }
}

fn tls(path: &str) -> Result<Arc<ClientConfig>, String> {
    let pem = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("{path}: {error}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn serve(way: Way, mut commands: UnboundedReceiver<String>) -> Result<(), String> {
    let mut program = Program {
        way,
        session: None,
        domain: String::new(),
        idle: JoinSet::new(),
        opened: 0,
    };
    while let Some(command) = commands.recv().await {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match program.obey(&words).await {
            Ok(answer) => format!("ok {answer}"),
            Err(why) => format!("failed {}", why.replace('\n', " ")),
        };
        writeln!(std::io::stdout(), "{answer}").map_err(|error| error.to_string())?;
    }
    Ok(())
}

struct Program {
    way: Way,
    session: Option<Link>,
    domain: String,
    idle: JoinSet<String>,
    opened: usize,
}

impl Program {
    async fn obey(&mut self, words: &[&str]) -> Result<String, String> {
        match *words {
            ["login", user, domain, password] => {
                domain.clone_into(&mut self.domain);
                let account = Account::new(user, domain, password);
                let began = Instant::now();
                let link = Link::login(&self.way, &account).await?;
                let took = began.elapsed().as_secs_f64() * 1e3;
                let jid = link.jid().to_owned();
                self.session = Some(link);
                Ok(format!("{took} {jid}"))
            }
            ["logout"] => {
                if let Some(session) = self.session.take() {
                    session.logout().await?;
                }
                Ok(String::new())
            }
            ["ping", count] => {
                let domain = self.domain.clone();
                let took = load::ping(self.session()?, &domain, number(count)?).await?;
                let words: Vec<String> = took.iter().map(|us| format!("{us:.1}")).collect();
                Ok(words.join(" "))
            }
            ["send", to, count] => {
                load::send(self.session()?, to, number(count)?).await?;
                Ok(String::new())
            }
            ["receive", count] => {
                load::receive(self.session()?, number(count)?).await?;
                Ok(String::new())
            }
            ["echo", to, count, in_flight] => {
                let (count, in_flight) = (number(count)?, number(in_flight)?);
                load::echo(self.session()?, to, count, in_flight).await?;
                Ok(String::new())
            }
            ["paced", to, burst, bursts, micros] => {
                let pace = Pace {
                    name: "",
                    burst: number(burst)?,
                    bursts: number(bursts)?,
                    every: Duration::from_micros(number(micros)? as u64),
                };
                load::paced(self.session()?, to, pace).await?;
                Ok(String::new())
            }
            ["idle", total, domain, accounts] => {
                let accounts: Vec<Account> = accounts
                    .split(',')
                    .filter_map(|account| account.split_once(':'))
                    .map(|(user, password)| Account::new(user, domain, password))
                    .collect();
                self.idle(number(total)?, &accounts).await
            }
            // The first that ended, if any.
            ["ended"] => match self.idle.try_join_next() {
                Some(Ok(why)) => Err(why),
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(String::new()),
            },
            _ => Err("no such command".to_owned()),
        }
    }

    fn session(&mut self) -> Result<&mut Link, String> {
        self.session.as_mut().ok_or_else(|| "no session".to_owned())
    }

    /// Opens sessions that stay until there are `total`.
    async fn idle(&mut self, total: usize, accounts: &[Account]) -> Result<String, String> {
        while self.opened < total {
            let account = accounts
                .get(self.opened % accounts.len().max(1))
                .ok_or("no accounts")?;
            let mut link = Link::login(&self.way, account).await?;
            link.rest();
            self.idle.spawn(async move {
                loop {
                    if let Err(why) = link.next().await {
                        return why;
                    }
                }
            });
            self.opened += 1;
        }
        Ok(String::new())
    }
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}
