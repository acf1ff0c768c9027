//! The talk with a peer at the other end of a socket, without a bus in between, as PID 1 has one.

use std::path::Path;

use nix::sys::socket::UnixAddr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{DynamicType, Message, Type};

use super::Trouble;
use super::line::Line;
use crate::deadline::Deadline;

/// A connection to one peer.
#[derive(Debug)]
pub struct Direct(Line);

impl Direct {
    /// Connects, and proves who this process is.
    ///
    /// # Errors
    /// When nobody listens there, or the peer's queue is full until the deadline.
    pub fn connect(path: &Path, deadline: Deadline) -> Result<Direct, Trouble> {
        let address = UnixAddr::new(path);
        let address = address.map_err(|errno| Trouble::NoConnection(errno.to_string()))?;
        Ok(Direct(Line::begin_by(&address, deadline)?))
    }

    /// Calls a method and returns what it answers. Whatever else arrives meanwhile is passed over.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn call<A, R>(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &A,
        deadline: Deadline,
    ) -> Result<R, Trouble>
    where
        A: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let call = Message::method_call(path, method)
            .interface(interface)
            .build(arguments)?;
        self.0.send(&call);
        let serial = call.primary_header().serial_num().get();
        loop {
            let message = self.0.next(deadline)?;
            if message.answers(serial) {
                return message.read();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    use zbus::wire::serialized::Context;
    use zbus::wire::{NATIVE_ENDIAN, Variant, to_bytes};
    use zbus::{ObjectPath, OwnedVariant, Signature};

    use super::*;
    use crate::deadline::Reason;

    const METHOD_RETURN: u8 = 2;
    const ERROR: u8 = 3;

    const ERROR_NAME: u8 = 4;
    const REPLY_SERIAL: u8 = 5;
    const SIGNATURE: u8 = 8;

    /// A stand-in for PID 1, which signs as PID 1 does, and what it answers to each call with.
    fn stand_in(name: &str, answers: Vec<Vec<u8>>) -> PathBuf {
        let path = std::env::temp_dir().join(format!("farewell-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a peer");
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).expect("the handshake");
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(
                said.starts_with("\0AUTH EXTERNAL ") && said.ends_with("\r\nBEGIN\r\n"),
                "{said:?}"
            );
            stream
                .write_all(b"OK 1234567890abcdef\r\n")
                .expect("written");
            for answer in answers {
                let length = stream.read(&mut buffer).expect("a call");
                let serial = u32::from_le_bytes(buffer[8..12].try_into().expect("four"));
                assert!(length > 16 && buffer[0] == b'l');
                let mut answer = answer;
                // Where `message` has left the place for it.
                let place = answer
                    .windows(4)
                    .rposition(|it| it == 0xdead_beef_u32.to_le_bytes());
                if let Some(at) = place {
                    answer[at..at + 4].copy_from_slice(&serial.to_le_bytes());
                }
                // In two parts, as a stream may.
                stream.write_all(&answer[..7]).expect("written");
                stream.write_all(&answer[7..]).expect("written");
            }
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        path
    }

    fn message<B: Serialize + DynamicType>(
        kind: u8,
        signature: &str,
        more: Option<&str>,
        body: &B,
    ) -> Vec<u8> {
        let context = Context::new(NATIVE_ENDIAN, 0);
        let body = to_bytes(context, body).expect("a body");
        let mut fields: Vec<(u8, Variant<'_>)> = vec![
            (REPLY_SERIAL, Variant::from(0xdead_beef_u32)),
            (7, Variant::from("org.freedesktop.systemd1")),
            (
                SIGNATURE,
                Variant::from(Signature::try_from(signature).expect("one")),
            ),
        ];
        if let Some(name) = more {
            fields.push((ERROR_NAME, Variant::from(name)));
        }
        let length = u32::try_from(body.bytes().len()).expect("short");
        let head = (b'l', kind, 0u8, 1u8, length, 1u32, fields);
        let mut bytes = to_bytes(context, &head).expect("a head").bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(body.bytes());
        bytes
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30), Reason::Attempt)
    }

    #[test]
    fn answers_are_taken_from_a_peer_that_signs_with_a_name() {
        let signal = message(4, "s", None, &"something else");
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").expect("a path");
        let error = "org.freedesktop.systemd1.NoSuchUnit";
        let answers = vec![
            [signal, message(METHOD_RETURN, "o", None, &job)].concat(),
            message(METHOD_RETURN, "v", None, &Variant::from("running")),
            message(ERROR, "s", Some(error), &"Unit x.service not loaded."),
            message(METHOD_RETURN, "u", None, &7u32),
        ];
        let path = stand_in("direct", answers);
        let mut direct = Direct::connect(&path, soon()).expect("connected");
        let mut call = |method: &str| -> Result<zbus::OwnedObjectPath, Trouble> {
            direct.call("/x", "x.Y", method, &("a", 1u32), soon())
        };
        assert_eq!(call("Stop").expect("an answer").as_str(), job.as_str());
        let value: OwnedVariant = direct
            .call("/x", "x.Y", "Get", &(), soon())
            .expect("an answer");
        assert_eq!(String::try_from(value).expect("text"), "running");
        let refused: Result<(), Trouble> = direct.call("/x", "x.Y", "Stop", &(), soon());
        let trouble = refused.expect_err("an error");
        assert!(trouble.is(error));
        assert_eq!(trouble.to_string(), "Unit x.service not loaded.");
        let strange: Result<String, Trouble> = direct.call("/x", "x.Y", "Z", &(), soon());
        assert!(matches!(strange, Err(Trouble::Strange(_))), "{strange:?}");
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_peer_that_does_not_answer_costs_its_deadline() {
        let path = stand_in("silent", Vec::new());
        let mut direct = Direct::connect(&path, soon()).expect("connected");
        let little = Deadline::after(Duration::from_millis(50), Reason::Attempt);
        let nothing: Result<(), Trouble> = direct.call("/x", "x.Y", "Z", &(), little);
        assert_eq!(nothing, Err(Trouble::TimedOut));
        std::fs::remove_file(&path).expect("removed");
        let nobody = Direct::connect(&path, soon()).map(drop);
        assert!(
            matches!(nobody, Err(Trouble::NoConnection(_))),
            "{nobody:?}"
        );
    }
}
