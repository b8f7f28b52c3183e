//! The `xbosh` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    xbosh::cli::main()
}
