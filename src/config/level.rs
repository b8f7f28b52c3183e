//! `log.level`: levels, and for which parts of the program they hold.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Why a text is no `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLevel {
    /// A word in it is no level, or there is none.
    Unknown,
    /// It names a span or its fields, as in `[span{field}]`.
    Span,
}

/// A level, or a list of such with names in front: `info,hyper=trace`. A name without a level is all of that part.
///
/// # Errors
/// [`BadLevel`]. A misspelt level is one, too, although it might be a name.
pub(crate) fn filter(text: &str) -> Result<Targets, BadLevel> {
    let mut targets = Targets::new();
    for part in text.split(',') {
        if part.contains(['[', ']', '{', '}']) {
            return Err(BadLevel::Span);
        }
        targets = match part.split_once('=') {
            Some((name, part)) => targets.with_target(name.trim(), level(part)?),
            None if part.contains("::") => targets.with_target(part.trim(), LevelFilter::TRACE),
            None => targets.with_default(level(part)?),
        };
    }
    Ok(targets)
}

fn level(text: &str) -> Result<LevelFilter, BadLevel> {
    match text.trim() {
        // It would be taken for the finest.
        "" => Err(BadLevel::Unknown),
        text => text.parse().map_err(|_| BadLevel::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    /// What each part of the program may say.
    #[test]
    fn the_longest_name_decides() {
        let targets =
            filter(" warn , xbosh = DEBUG,hyper=off,xbosh::http, h2::proto=info").unwrap();
        for (target, level, says) in [
            ("rustls", Level::WARN, true),
            ("rustls", Level::INFO, false),
            ("xbosh::bosh", Level::DEBUG, true),
            ("xbosh::bosh", Level::TRACE, false),
            ("xbosh::http::pool", Level::TRACE, true),
            ("hyper::proto", Level::ERROR, false),
            ("h2::proto::streams", Level::INFO, true),
            ("h2::codec", Level::INFO, false),
        ] {
            assert_eq!(
                targets.would_enable(target, &level),
                says,
                "{target} {level}"
            );
        }
    }

    /// Only what is named says anything.
    #[test]
    fn names_alone() {
        let targets = filter("xbosh=info").unwrap();
        assert!(targets.would_enable("xbosh", &Level::INFO));
        assert!(!targets.would_enable("hyper", &Level::ERROR));
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "loud",
            "info,",
            "xbosh=",
            "xbosh=loud",
            "a=b=info",
            "info;debug",
        ] {
            assert_eq!(filter(text), Err(BadLevel::Unknown), "{text}");
        }
        for text in [
            "[span]=info",
            "xbosh[{client}]=trace",
            "xbosh[a{b=\"c,d\"}]",
        ] {
            assert_eq!(filter(text), Err(BadLevel::Span), "{text}");
        }
    }
}
