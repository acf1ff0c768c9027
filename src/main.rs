//! The `farewell` command.

use std::process::ExitCode;

use farewell::sys::{copy, probe};

fn main() -> ExitCode {
    if let Some(code) = probe::serve(std::env::args_os(), &[(copy::VERB, copy::serve)]) {
        return code;
    }
    farewell::app::main()
}
