//! A real balancer's process.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::signals;

/// A process, killed when it goes out of scope.
pub struct Process {
    child: Child,
    program: String,
    args: Vec<String>,
}

impl Process {
    pub fn start(program: &str, args: &[&str]) -> Process {
        let args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
        Process {
            child: spawn(program, &args),
            program: program.to_owned(),
            args,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        signals::send(self.child.id(), signal);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it at once, and starts it anew.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.program, &self.args);
    }
}

fn spawn(program: &str, args: &[String]) -> Child {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn();
    child.unwrap_or_else(|error| panic!("{program}: {error}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
