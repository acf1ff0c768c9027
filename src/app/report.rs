//! `farewell report` and `farewell status`: what records tell.

use std::io;

use super::{complain, print, store};
use crate::cli::{Options, exit};
use crate::history::past::{self, Past};
use crate::history::store::Store;
use crate::history::summary::Summary;

/// Shows one past run, or the list of them.
pub fn report(options: &Options, run: Option<&str>, list: bool, as_json: bool) -> u8 {
    let _ = (options, run, list, as_json);
    exit::OK
}

/// Shows the run in progress, else the last one.
pub fn status(options: &Options, follow: bool, as_json: bool) -> u8 {
    let _ = (options, follow, as_json);
    exit::OK
}
