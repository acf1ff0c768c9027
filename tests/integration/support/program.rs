//! The program itself, started as its users start it.

use std::fs;
use std::process::{Command, Stdio};

use super::Dir;

/// What a program printed that must succeed, or else what it complained about.
pub fn printed(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.trim()))
}

/// The program with nothing in its environment but the path.
pub fn farewell() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farewell"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Runs the program to its end.
    pub fn by(command: &mut Command) -> Said {
        let output = command.output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Said {
            code: output.status.code().expect("an exit code"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// A configuration in a directory of its own, with its records.
pub struct Setting(pub Dir);

impl Setting {
    pub fn new(name: &str, toml: &str) -> Self {
        let dir = Dir::new(name);
        fs::write(dir.file("farewell.toml"), toml).expect("written");
        Setting(dir)
    }

    /// The verb, its arguments, and the two options.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = farewell();
        command
            .args(arguments)
            .args(["--config", &self.0.file("farewell.toml")])
            .args(["--state", &self.0.file("state")]);
        command
    }

    pub fn say(&self, arguments: &[&str]) -> Said {
        Said::by(&mut self.command(arguments))
    }
}
