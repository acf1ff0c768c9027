//! From files to typed shapes: fragments, tables, facts. Nothing is decided here.

mod credential;
pub mod document;
pub mod facts;
mod filling;
pub mod fragments;
pub mod hosts;
pub mod pointer;
pub mod problem;
pub mod section;
pub mod shape;
pub mod suggestion;
pub mod template;
mod url_part;
