//! Chains of ordering between units.

use std::collections::{BTreeMap, VecDeque};

/// The shortest chain from `from` to `to`, both included, in which each unit is ordered after the next one. `after`
/// returns what a unit is ordered after. `None` if there is no such chain.
pub fn chain(
    from: &str,
    to: &str,
    mut after: impl FnMut(&str) -> Vec<String>,
) -> Option<Vec<String>> {
    // Each unit that was reached, and its predecessor.
    let mut reached: BTreeMap<String, String> = BTreeMap::new();
    let mut waiting = VecDeque::from([from.to_owned()]);
    while let Some(unit) = waiting.pop_front() {
        for next in after(&unit) {
            if next == to {
                return Some(back(from, &reached, unit, next));
            }
            if next != from && !reached.contains_key(&next) {
                reached.insert(next.clone(), unit.clone());
                waiting.push_back(next);
            }
        }
    }
    None
}

/// The chain that ends with `unit` and then `last`.
fn back(from: &str, reached: &BTreeMap<String, String>, unit: String, last: String) -> Vec<String> {
    let mut chain = vec![last, unit];
    while let Some(unit) = chain.last().filter(|unit| *unit != from) {
        match reached.get(unit) {
            Some(before) => chain.push(before.clone()),
            None => break,
        }
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &str, to: &str, edges: &[(&str, &str)]) -> Option<String> {
        let after = |unit: &str| {
            let of_unit = edges.iter().filter(|(one, _)| *one == unit);
            of_unit.map(|(_, next)| (*next).to_owned()).collect()
        };
        chain(from, to, after).map(|chain| chain.join(" "))
    }

    #[test]
    fn the_shortest_chain_is_found() {
        let edges = [("a", "b"), ("b", "c"), ("a", "x"), ("x", "y"), ("y", "c")];
        assert_eq!(of("a", "c", &edges).as_deref(), Some("a b c"));
        assert_eq!(of("a", "b", &edges).as_deref(), Some("a b"));
        assert_eq!(of("c", "a", &edges), None);
        assert_eq!(of("nothing", "a", &edges), None);
    }

    #[test]
    fn a_circle_is_a_chain_to_oneself_and_others_are_no_trap() {
        let edges = [("a", "b"), ("b", "a"), ("b", "b"), ("b", "c"), ("c", "d")];
        assert_eq!(of("a", "a", &edges).as_deref(), Some("a b a"));
        assert_eq!(of("a", "d", &edges).as_deref(), Some("a b c d"));
        assert_eq!(of("a", "e", &edges), None);
        assert_eq!(of("x", "x", &[("x", "x")]).as_deref(), Some("x x"));
    }
}
