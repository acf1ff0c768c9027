//! Reads configuration files into typed values: fragments, tables, facts. Nothing is decided here.

mod captured;
mod credential;
pub mod credential_hosts;
pub mod document;
mod fact_position;
pub mod facts;
pub mod fragments;
pub mod pointer;
pub mod problem;
pub mod section;
pub mod suggestion;
pub mod template;
pub mod text_kind;
mod url_part;
