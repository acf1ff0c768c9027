//! One file for each scenario, or for a few that belong together.

mod power_button;

pub use power_button::power_button;
