//! The `farewell` command.

use std::process::ExitCode;

use farewell::sys::{copying, guarded};

fn main() -> ExitCode {
    if let Some(code) = guarded::serve(std::env::args_os(), &[(copying::VERB, copying::serve)]) {
        return code;
    }
    farewell::app::main()
}
