//! Which machine a record is of.

use serde::{Deserialize, Serialize};

/// What tells one machine from another. Either part may be missing: an image has no machine-id yet, only root can read
/// the product UUID, and not all hardware has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The id of the installation, see machine-id(5). A clone of the disk has the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of the hardware, or of what a hypervisor gives out as such: the SMBIOS system UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
}

impl Machine {
    /// Whether both are the same machine. What is missing on either side is unknown, not different, so that the other
    /// part decides alone; where nothing can be compared nobody knows, and they are not the same.
    pub fn is(&self, other: &Machine) -> bool {
        let parts = [(&self.id, &other.id), (&self.product, &other.product)];
        let mut known = parts
            .into_iter()
            .filter_map(|(one, other)| one.as_ref().zip(other.as_ref()))
            // Kernels differ in the case of the product UUID's letters.
            .map(|(one, other)| one.eq_ignore_ascii_case(other))
            .peekable();
        known.peek().is_some() && known.all(|same| same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: &str, product: &str) -> Machine {
        let part = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Machine {
            id: part(id),
            product: part(product),
        }
    }

    #[test]
    fn what_is_missing_decides_nothing() {
        for (id, product, is_same) in [
            ("m", "P", true),
            ("m", "p", true),
            ("m", "q", false),
            ("n", "P", false),
            ("m", "", true),
            ("n", "", false),
            ("", "P", true),
            ("", "q", false),
            ("", "", false),
        ] {
            let (one, other) = (machine("m", "P"), machine(id, product));
            assert_eq!(one.is(&other), is_same, "{other:?}");
            assert_eq!(other.is(&one), is_same, "{other:?}");
        }
        assert!(!machine("m", "").is(&machine("", "P")));
    }
}
