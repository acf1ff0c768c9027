//! Reading one table of the configuration key by key, with every problem told and none hiding another.

mod caution;
mod field;
mod kept;
mod pieces;
mod reading;
mod strings;
mod table;
mod values;
mod words;

pub use field::{Check, Field, Secrecy, non_empty, path, plain, unit_name};
pub use kept::read_kept;
pub use reading::Reading;
pub use table::Section;
pub use values::{IntegersOrWord, Json};
