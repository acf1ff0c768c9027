//! Converts facts of a template to and from their form in a record.

use crate::config::template::{Fact, Part};
use crate::model::intent::{Piece, Source};

/// The part of a template for a piece of a record.
pub(super) fn part(piece: &Piece) -> Part {
    match piece {
        Piece::Text(text) => Part::Literal(text.clone()),
        Piece::From(source) => Part::Fact(match source {
            Source::Credential(name) => Fact::Credential(name.clone()),
            Source::File(path) => Fact::File(path.clone()),
            Source::Json(path, pointer) => Fact::Json(path.clone(), pointer.clone()),
            Source::Env(name) => Fact::Env(name.clone()),
        }),
    }
}

/// The reference that a record keeps for a fact; `None` for a fact that it keeps as text.
pub(super) fn source(fact: &Fact) -> Option<Source> {
    match fact {
        Fact::Credential(name) => Some(Source::Credential(name.clone())),
        Fact::File(path) => Some(Source::File(path.clone())),
        Fact::Json(path, pointer) => Some(Source::Json(path.clone(), pointer.clone())),
        Fact::Env(name) => Some(Source::Env(name.clone())),
        Fact::Hostname
        | Fact::MachineId
        | Fact::BootId
        | Fact::Ip(_)
        | Fact::Trigger
        | Fact::Run
        | Fact::Result
        | Fact::Failed
        | Fact::Step(..) => None,
    }
}
