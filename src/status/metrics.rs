//! The text that Prometheus reads (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Report;

/// All numbers, summed by domain and state, so that a client that comes and goes makes no new series.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    single(
        &mut out,
        "xbosh_uptime_seconds",
        "gauge",
        "Seconds since the start.",
        report.uptime,
    );
    single(
        &mut out,
        "xbosh_clients_total",
        "counter",
        "Clients that came.",
        report.clients,
    );
    single(
        &mut out,
        "xbosh_streams_failed_total",
        "counter",
        "Streams that ended with an error.",
        report.failed,
    );
    let total = &report.total;
    for (name, help, value) in [
        (
            "xbosh_stanzas_up_total",
            "Stanzas from clients.",
            total.stanzas_up,
        ),
        (
            "xbosh_stanzas_down_total",
            "Stanzas for clients.",
            total.stanzas_down,
        ),
        (
            "xbosh_bytes_up_total",
            "Bytes from clients.",
            total.bytes_up,
        ),
        (
            "xbosh_bytes_down_total",
            "Bytes for clients.",
            total.bytes_down,
        ),
        (
            "xbosh_exchanges_total",
            "Requests to connection managers.",
            total.exchanges,
        ),
        ("xbosh_repeats_total", "Repeated requests.", total.repeats),
    ] {
        single(&mut out, name, "counter", help, value);
    }
    let mut streams: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut sums: BTreeMap<&str, [u64; 6]> = BTreeMap::new();
    for stream in &report.streams {
        let domain = stream.domain.as_deref().unwrap_or_default();
        *streams.entry((domain, &stream.state)).or_default() += 1;
        let sum = sums.entry(domain).or_default();
        let numbers = [
            stream.stanzas_up,
            stream.stanzas_down,
            stream.bytes_up,
            stream.bytes_down,
            stream.exchanges,
            stream.repeats,
        ];
        for (total, number) in sum.iter_mut().zip(numbers) {
            *total += number;
        }
    }
    head(&mut out, "xbosh_streams", "gauge", "Open streams.");
    for ((domain, state), count) in streams {
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "xbosh_streams{{domain=\"{}\",state=\"{state}\"}} {count}",
            label(domain)
        );
    }
    let names = [
        (
            "xbosh_open_stanzas_up",
            "Stanzas from the clients of open streams.",
        ),
        (
            "xbosh_open_stanzas_down",
            "Stanzas for the clients of open streams.",
        ),
        (
            "xbosh_open_bytes_up",
            "Bytes from the clients of open streams.",
        ),
        (
            "xbosh_open_bytes_down",
            "Bytes for the clients of open streams.",
        ),
        ("xbosh_open_exchanges", "Requests of open streams."),
        ("xbosh_open_repeats", "Repeated requests of open streams."),
    ];
    for (index, (name, help)) in names.into_iter().enumerate() {
        head(&mut out, name, "gauge", help);
        for (domain, sum) in &sums {
            let _ = writeln!(out, "{name}{{domain=\"{}\"}} {}", label(domain), sum[index]);
        }
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

/// A label's value: domains come from clients.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::{FORMAT, Stream, Traffic};
    use super::*;

    #[test]
    fn as_prometheus_reads_it() {
        let stream = |domain: &str, state: &str| Stream {
            domain: Some(domain.into()),
            state: state.into(),
            stanzas_up: 2,
            bytes_down: 1000,
            ..Stream::default()
        };
        let report = Report {
            format: FORMAT,
            version: "0".into(),
            uptime: 7,
            listening: Vec::new(),
            clients: 9,
            failed: 1,
            way: None,
            total: Traffic {
                stanzas_up: 100,
                stanzas_down: 101,
                bytes_up: 102,
                bytes_down: 103,
                exchanges: 104,
                repeats: 105,
            },
            streams: vec![
                stream("a.example", "online"),
                stream("a.example", "online"),
                stream("a.example", "away"),
                stream("b\"\\", "login"),
            ],
        };
        insta::assert_snapshot!(text(&report));
    }
}
