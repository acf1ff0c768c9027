//! Reads one table of the configuration key by key, and reports every problem.

mod field;
mod findings;
mod plan_values;
mod recorded;
mod recorded_template;
mod secret_warnings;
mod strings;
mod table;
mod values;

pub use field::{Check, Field, Secrecy, non_empty, path, plain, unit_name};
pub use findings::{CapturedUse, Reading};
pub use recorded::read_kept;
pub use table::Section;
pub use values::{IntegersOrWord, Json};
