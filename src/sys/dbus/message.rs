//! Received messages, as far as farewell reads them.

use serde::de::DeserializeOwned;
use zbus::message::Header;
use zbus::wire::Endian;
use zbus::wire::serialized::{Context, Data};
use zbus::{OwnedVariant, Signature, Type};

use super::BusError;

/// The head of a message: byte order, type, flags, version, body's length, serial number, fields.
type Head = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// The types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call,
    /// The reply to a call.
    Return,
    /// An error reply.
    Error,
    Signal,
    /// An unknown type, to be ignored.
    Other,
}

/// A message of which only the head is decoded.
#[derive(Debug)]
pub struct Incoming {
    /// What it is.
    pub kind: Kind,
    head: Data<'static, 'static>,
    fields: Vec<(u8, OwnedVariant)>,
    body: Data<'static, 'static>,
    /// Whether it was too long, so that its body was discarded.
    pub is_too_long: bool,
}

impl Kind {
    /// The type with this number.
    pub fn of(number: u8) -> Kind {
        match number {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        }
    }

    /// Whether it answers a call.
    pub fn is_answer(self) -> bool {
        matches!(self, Kind::Return | Kind::Error)
    }
}

impl Incoming {
    /// Decodes a message; `body` is `None` if it was discarded.
    pub fn of(
        (order, kind): (Endian, Kind),
        head: Vec<u8>,
        body: Option<Vec<u8>>,
    ) -> Result<Incoming, BusError> {
        let context = Context::new(order, 0);
        let head = Data::new(head, context);
        let (understood, _): (Head, usize) = head.deserialize()?;
        Ok(Incoming {
            kind,
            head,
            fields: understood.6,
            is_too_long: body.is_none(),
            body: Data::new(body.unwrap_or_default(), context),
        })
    }

    fn field(&self, code: u8) -> Option<&OwnedVariant> {
        let found = self.fields.iter().find(|(it, _)| *it == code)?;
        Some(&found.1)
    }

    fn text(&self, code: u8) -> &str {
        let text = self.field(code).map(|value| &**value);
        match text {
            Some(zbus::Variant::Str(text)) => text,
            Some(zbus::Variant::ObjectPath(path)) => path,
            _ => "",
        }
    }

    /// The object path. Like the other fields, empty if the message has none.
    pub fn path(&self) -> &str {
        self.text(PATH)
    }

    pub fn interface(&self) -> &str {
        self.text(INTERFACE)
    }

    /// The name of the method or signal.
    pub fn member(&self) -> &str {
        self.text(MEMBER)
    }

    /// The sender: on a bus a unique name, or the bus itself.
    pub fn sender(&self) -> &str {
        self.text(SENDER)
    }

    /// Whether it answers the call with this serial number.
    pub fn answers(&self, serial: u32) -> bool {
        let answered = self.field(REPLY_SERIAL).map(|value| &**value);
        matches!(answered, Some(zbus::Variant::U32(number)) if *number == serial)
    }

    /// The head of a call, as zbus needs it to build a reply.
    pub fn header(&self) -> zbus::Result<Header<'_>> {
        Ok(self.head.deserialize()?.0)
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// `Refused` for an error reply; `Unexpected` for a body of another type.
    pub fn read<R: DeserializeOwned + Type>(&self) -> Result<R, BusError> {
        let signature = match self.field(SIGNATURE).map(|value| &**value) {
            Some(zbus::Variant::Signature(signature)) => signature,
            _ => &Signature::Unit,
        };
        if self.kind == Kind::Error {
            let message = match signature {
                Signature::Str => self.body.deserialize::<String>()?.0,
                _ => String::new(),
            };
            let name = self.text(ERROR_NAME).to_owned();
            return Err(BusError::Refused(name, message));
        }
        if *signature == *R::SIGNATURE {
            return Ok(self.body.deserialize()?.0);
        }
        // zbus decodes the arguments of a body as one structure.
        let signature = signature.to_string();
        if R::SIGNATURE.to_string() == format!("({signature})") {
            return Ok(self.body.deserialize()?.0);
        }
        let wanted = R::SIGNATURE;
        Err(BusError::Unexpected(format!(
            "type {signature} instead of {wanted}"
        )))
    }
}
