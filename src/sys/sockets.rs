//! The TCP connections of this machine (of this network namespace), from `/proc/net/tcp` and `tcp6` (proc_pid_net(5)).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

/// How many established connections each of `ports` (local ones) has, in their order.
///
/// # Errors
/// When the kernel does not say.
pub fn established(ports: &[u16]) -> io::Result<Vec<usize>> {
    let mut counts = vec![0; ports.len()];
    each_line(|line| {
        if let Some(port) = established_port(line) {
            for (_, count) in ports.iter().zip(&mut counts).filter(|(it, _)| **it == port) {
                *count += 1;
            }
        }
    })?;
    Ok(counts)
}

/// Tells every line of the kernel's two tables of TCP sockets, their heads too.
pub(super) fn each_line(mut tell: impl FnMut(&str)) -> io::Result<()> {
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let file = match File::open(path) {
            // Where IPv6 is off there are no such connections.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with('6') => {
                continue;
            }
            file => file?,
        };
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            tell(&line);
            line.clear();
        }
    }
    Ok(())
}

/// The local port of a line whose socket is established: `0: 0100007F:1F90 0100007F:D2F0 01 …`.
fn established_port(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    (state == "01")
        .then(|| u16::from_str_radix(port, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_sockets_have_a_port() {
        let line = |state| format!("   0: 0100007F:1F90 0100007F:D2F0 {state} 00000000:00000000");
        assert_eq!(established_port(&line("01")), Some(8080));
        assert_eq!(established_port(&line("0A")), None);
        let six = " 1: 00000000000000000000000001000000:0050 00000000000000000000000001000000:C001 01 0:0";
        assert_eq!(established_port(six), Some(80));
        assert_eq!(
            established_port("  sl  local_address rem_address   st"),
            None
        );
    }
}
