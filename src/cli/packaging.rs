//! `xbosh completions` and `xbosh man`, for packagers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_FAILURE, command, fail, print};

/// Whose completions.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    shell: clap_complete::Shell,
}

/// Which pages.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write xbosh.1, a page for each command, and xbosh.toml.5 into this folder, instead of printing xbosh.1
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn completions(args: CompletionsArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "xbosh", &mut text);
    print(&String::from_utf8_lossy(&text))
}

pub(super) fn man(args: ManArgs) -> ExitCode {
    let done = match &args.out {
        Some(folder) => write_all(folder),
        None => {
            let mut text = Vec::new();
            match clap_mangen::Man::new(command()).render(&mut text) {
                Ok(()) => return print(&String::from_utf8_lossy(&text)),
                Err(error) => Err(error),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(
            EXIT_FAILURE,
            &format!("cannot write the manual pages: {error}"),
        ),
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command(), folder)?;
    std::fs::write(folder.join("xbosh.toml.5"), configuration_page())
}

/// The manual page of the configuration file: the annotated default, comments as text.
fn configuration_page() -> String {
    let mut page = format!(
        ".TH xbosh.toml 5 \"\" \"xbosh {}\" \"File formats\"\n.SH NAME\nxbosh.toml \\- configuration of xbosh(1)\n\
         .SH SYNOPSIS\n~/.config/xbosh/config.toml\n.br\n/etc/xbosh/config.toml\n.SH DESCRIPTION\n\
         TOML. No file is a valid configuration. Every key can also be set in the environment: XBOSH_ and the path \
         of the key, joined by two underscores, as in XBOSH_PROXY__URL. What follows is the default configuration.\n\
         .SH KEYS\n.nf\n",
        env!("CARGO_PKG_VERSION")
    );
    for line in include_str!("../../config.toml").lines() {
        page.push_str(&roff(line));
        page.push('\n');
    }
    page.push_str(".fi\n.SH SEE ALSO\nxbosh(1)\n");
    page
}

/// One line of text, so that roff sees nothing in it.
fn roff(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_commands_are_text() {
        assert_eq!(roff(".SH"), "\\&.SH");
        assert_eq!(roff("a-b\\"), "a\\-b\\e");
    }

    /// Every key is in the page.
    #[test]
    fn the_page_has_the_configuration() {
        let page = configuration_page();
        for key in ["max_stanza_bytes", "[local_tls]", "resume_window"] {
            assert!(page.contains(key), "{key}");
        }
    }
}
