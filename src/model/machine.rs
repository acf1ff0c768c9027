//! Identifies the machine of a record.

use serde::{Deserialize, Serialize};

/// The identity of a machine. Either part may be missing: an image has no machine-id yet, only root can read the
/// product UUID, and not all hardware has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The id of the installation, see machine-id(5). A clone of the disk has the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of the hardware, or the one that a hypervisor assigns: the SMBIOS system UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
}

impl Machine {
    /// The relation of this machine to another one. A part that is missing on either side is unknown, not different, so
    /// that the other part decides alone.
    pub fn relation(&self, other: &Machine) -> Relation {
        // Kernels differ in the case of the product UUID's letters.
        let is_same = |one: &Option<String>, other: &Option<String>| {
            Some(one.as_ref()?.eq_ignore_ascii_case(other.as_ref()?))
        };
        let id = is_same(&self.id, &other.id);
        match (id, is_same(&self.product, &other.product)) {
            (Some(false), _) => Relation::Another,
            (Some(true), Some(false)) => Relation::Moved,
            (None, Some(false)) => Relation::Another,
            (Some(true), _) | (None, Some(true)) => Relation::Same,
            (None, None) => Relation::Unknown,
        }
    }
}

/// The relation of one machine to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// The same installation on other hardware: it was moved or restored, or is a copy that kept its id.
    Moved,
    /// Another installation, of whose disk this one may be a copy.
    Another,
    /// Nothing can be compared.
    Unknown,
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
        for (id, product, relation) in [
            ("m", "P", Relation::Same),
            ("m", "p", Relation::Same),
            ("m", "q", Relation::Moved),
            ("n", "P", Relation::Another),
            ("n", "q", Relation::Another),
            ("m", "", Relation::Same),
            ("n", "", Relation::Another),
            ("", "P", Relation::Same),
            ("", "q", Relation::Another),
            ("", "", Relation::Unknown),
        ] {
            let (one, other) = (machine("m", "P"), machine(id, product));
            assert_eq!(one.relation(&other), relation, "{other:?}");
            assert_eq!(other.relation(&one), relation, "{other:?}");
        }
        assert_eq!(
            machine("m", "").relation(&machine("", "P")),
            Relation::Unknown
        );
    }
}
