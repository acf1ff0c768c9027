//! The id of a machine for FleetLock servers.

use std::fmt::Write as _;

use crate::config::facts::Facts;
use crate::config::template::Fact;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::digest::hmac_sha256;

/// Zincati's application id; poseidon's server computes the same from each node's machine-id.
const ZINCATI: u128 = 0xde35_106b_6ec2_4688_b63a_fdda_a156_679b;

/// The id of this machine, as `systemd-id128 machine-id --app-specific=de35106b6ec24688b63afddaa156679b` prints it.
pub(super) fn of_this_machine(facts: &Facts) -> Result<String, Failure> {
    let failed =
        |cause: String| Failure::new(ErrorKind::Config, "the app-specific machine id", cause);
    let id = facts.value(&Fact::MachineId).map_err(failed)?;
    let number = u128::from_str_radix(&id, 16);
    let number =
        number.map_err(|_| failed("the machine-id is not a hexadecimal number".to_owned()))?;
    Ok(app_specific(number))
}

/// sd_id128_get_machine_app_specific(3): the first half of a keyed digest, marked as a random UUID (version 4).
fn app_specific(machine: u128) -> String {
    let mut digest = hmac_sha256(&machine.to_be_bytes(), &ZINCATI.to_be_bytes());
    digest[6] = digest[6] & 0x0f | 0x40;
    digest[8] = digest[8] & 0x3f | 0x80;
    digest[..16].iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_systemd_makes_of_it() {
        let id = app_specific(0x3d12_19c7_c4c5_404a_aa1f_6d2a_48ad_fda4);
        assert_eq!(id, "975228d46dc94622b9bbe16671e2b58d");
    }
}
